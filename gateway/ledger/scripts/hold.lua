-- hold: take every line of the first candidate that all its lines allow, or nothing.
-- KEYS  meta, balances, request, due, entries
-- ARGV  epoch, token, request id, state, lease ms, attempt to release or '', why, about, candidates, retention s
-- Reply HELD index attempt (left reset-ms)* | DENIED (candidate line used held wait-ms)* | DROPPED

local meta, balances, request, due, entries = unpack(KEYS)
local epoch, token, id, state, lease, release, reason, about, offered, retention = unpack(ARGV)
local now = milliseconds()

if redis.call('HGET', meta, 'epoch') ~= epoch then
  refuse('NOLEDGER the store was emptied or replaced while in use')
end
if not LIVE[state] then
  refuse('unknown state')
end
lease, retention = whole(lease, 'lease'), whole(retention, 'retention')
require_types(due, entries)
local all = {}
local candidates = read_candidates(offered, all, now)

local known = redis.call('HMGET', request, 'attempts', 'token', 'dropped:' .. token)
local count = whole(known[1] or '0', 'attempts')
if known[3] then
  return {'DROPPED'}
end
if known[2] == token then -- a repeat: the answer to the first one was lost
  load_cells(balances, all, now)
  local index = cjson.decode(redis.call('HGET', request, 'a' .. count)).index
  return held_reply(candidates[index], index, count, now)
end

local earlier = release ~= '' and read_attempt(request, digits(whole(release, 'release'))) or nil
if earlier and not LIVE[earlier.state] then
  earlier = nil
end
for _, line in ipairs(earlier and earlier.lines or {}) do
  table.insert(all, line)
end
load_cells(balances, all, now)
local given_back = earlier and plan_void(earlier, token, reason, now)
local index, reply = choose(candidates, now)
local attempt, fixed = count + 1, nil
if index then
  local candidate = candidates[index]
  fixed = {index = index, at = digits(now), worst = candidate.worst, lines = take_lines(candidate)}
  reply = held_reply(candidate, index, attempt, now)
end

store_cells(balances, changed_cells()) -- the first write
if earlier then
  mark(request, earlier, 'void', given_back, '{}', retention)
  redis.call('ZREM', due, id .. ':' .. earlier.number)
end
if index then
  redis.call('HSET', request, 'about', about, 'attempts', attempt, 'token', token, 'f' .. attempt,
    candidates[index].facts, 'a' .. attempt, cjson.encode(fixed), 's' .. attempt, state)
  redis.call('HSETNX', request, 'created', digits(now))
  redis.call('PERSIST', request)
  redis.call('ZADD', due, now + lease, id .. ':' .. attempt)
end
return reply
