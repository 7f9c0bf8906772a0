-- hold: take every line of the first candidate that all its lines allow, or nothing.
-- KEYS  instances, meta, balances, request, due, entries, the binding if there is one
-- ARGV  instance, operation, epoch, token, request id, state, lease ms, attempt to release or '', why, about, candidates,
--       retention s, fingerprint, bound or claimed ('' is bound), highest attempt that the gateway knows of, 1 to release
--       only if something is held, request to take the binding over from or '', binding s
-- Reply HELD index attempt at (left reset-ms)* | DENIED (candidate line used held wait-ms)* | DROPPED |
--       BOUND request same

local _, meta, balances, request, due, entries, binding = unpack(KEYS)
local _, _, epoch, token, id, state, lease, release, reason, about, offered, retention = unpack(ARGV)
local fingerprint, claim, newest, only_if_held, former, bound_for = unpack(ARGV, 13)
local now = milliseconds()

require_epoch(meta, epoch)
if not LIVE[state] then
  refuse('unknown state')
end
lease, retention = whole(lease, 'lease'), whole(retention, 'retention')
require_types(due, entries)
local all = {}
local candidates = read_candidates(offered, all, now)
local before = note(now)

local known = redis.call('HMGET', request, 'attempts', 'token', 'dropped:' .. token, 'held:' .. token, 'created')
local count = whole(known[1] or '0', 'attempts')
if known[3] then
  return {before, {'DROPPED'}}
end
local repeated = known[4] or (known[2] == token and known[1])
if repeated then -- the answer to the first one was lost
  load_cells(balances, all, now)
  local fixed = cjson.decode(redis.call('HGET', request, 'a' .. repeated))
  local was = candidates[fixed.index]
  return {before, was and held_reply(was, fixed.index, tonumber(repeated), fixed.at, now) or {'DENIED'}} -- or offered next
end
local other = binding and bound_elsewhere(binding, id, fingerprint, claim, former, token)
if other then
  return {before, other}
end

local earlier = release ~= '' and read_attempt(request, digits(whole(release, 'release'))) or nil
if earlier and not may_be_given_back(earlier) then
  earlier = nil
end
for _, line in ipairs(earlier and earlier.lines or {}) do
  table.insert(all, line)
end
load_cells(balances, all, now)
local given_back, correction
if earlier then
  given_back, correction = plan_giving_back(earlier, token, reason, now)
end
local index, reply = choose(candidates, now)
if not index and only_if_held ~= '' then -- the earlier one was given back in memory alone
  return {before, reply}
end
local attempt, fixed = math.max(count, whole(newest, 'newest')) + 1, nil -- a number is never given twice
if index then
  local candidate = candidates[index]
  fixed = {index = index, at = digits(now), worst = candidate.worst, lines = take_lines(candidate),
    swapped = swapped_for(due, id, earlier)}
  reply = held_reply(candidate, index, attempt, fixed.at, now)
end

store_cells(balances, changed_cells()) -- the first write of money
if correction then -- it had lapsed to presumed spent
  append(entries, id, earlier, correction)
end
if earlier then
  mark(request, earlier, 'void', given_back, '{}', retention)
  redis.call('ZREM', due, id .. ':' .. earlier.number)
end
if index then
  write_attempt(request, attempt, attempt, {about = about, token = token, last = token, facts = candidates[index].facts,
    fixed = fixed, state = state, created = known[5]})
  redis.call('ZADD', due, now + lease, id .. ':' .. attempt)
  bind(binding, id, fingerprint, claim, bound_for)
end
return {before, reply}
