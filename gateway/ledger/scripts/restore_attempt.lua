-- restore_attempt: remember an entry that the store has lost in its request's record again, so that a settlement of it that
-- is repeated, or comes late, is known for what it is. Entries must come in order; a repeat changes nothing. An attempt that
-- is live in a store older than the export, or was given back, has ended otherwise; what it holds is put right afterwards.
-- KEYS  request, adjustments, due
-- ARGV  entry id, member of due, attempt, kind, at ms, source, nano-USD x3, images, outcome, about, facts, worst case (JSON array),
--       (kind, cell, micro-USD, view) of each line (JSON array), adjustment id or '', retention s, nano-USD x3 that were
--       booked before or '' if that is not known
-- Reply DONE | SAME

local request, adjustments, due = unpack(KEYS)
local entry, member, number, kind, at, source, official, route, internal, images, outcome, about, facts, worst, lines, adjustment, retention, before =
  unpack(ARGV)
number = whole(number, 'attempt')
if number == 0 then
  return redis.call('HSETNX', adjustments, adjustment, at) == 1 and 'DONE' or 'SAME'
end
local known = redis.call('HMGET', request, 's' .. number, 'r' .. number, 'e' .. number, 'attempts', 'a' .. number)
local first, restored = kind == 'settle' or kind == 'presume', known[2] or ''
local booked_before = (known[1] == 'settled' or known[1] == 'presumed') and restored == ''
local was = known[3] and cjson.decode(known[3])
local other = was and before ~= '' and table.concat(was.cost, ' ') ~= before
if restored >= entry or (first and booked_before) or (not first and (not was or other)) then
  return 'SAME'
end

local cost, taken, booked, change = {official, route, internal}, cjson.decode(lines), {}, {}
for i, line in ipairs(taken) do
  booked[i], change[line[2]] = line[3], line[3]
end
if first then
  for _, line in ipairs(taken) do
    line[3] = digits(math.max(signed(line[3], 'line'), 0))
  end
  local fixed = cjson.encode({index = 1, at = at, worst = cjson.decode(worst), lines = taken})
  redis.call('HSET', request, 'about', about, 'attempts', math.max(tonumber(known[4] or '0'), number), 'f' .. number, facts,
    'a' .. number, #taken > 0 and fixed or string.gsub(fixed, '"lines":{}', '"lines":[]'))
  redis.call('HSETNX', request, 'created', at)
  redis.call('HSETNX', request, 'token', '')
else
  for i = 1, 3 do
    cost[i] = digits(signed(was.cost[i], 'cost') + signed(cost[i], 'cost'))
  end
  images = digits(signed(was.images, 'images') + signed(images, 'images'))
  for i, line in ipairs(cjson.decode(known[5]).lines) do
    booked[i] = digits(signed(was.booked[i], 'booked') + signed(change[line[2]] or '0', 'booked'))
  end
end
local state = ((kind == 'presume' or source == 'presumed') and 'presumed') or (source == 'void' and 'void') or 'settled'
local ended = cjson.encode({at = at, token = 'restored', result = 'DONE', source = source, images = images, cost = cost,
  booked = booked, reason = state == 'void' and cjson.decode(outcome).reason or nil}) -- by which a guess is known
redis.call('HSET', request, 's' .. number, state, 'r' .. number, entry, 'e' .. number, ended)
redis.call('ZREM', due, member)
if kind ~= 'adjust' then -- which says nothing of the provider's answer
  redis.call('HSET', request, 'o' .. number, outcome)
end
if adjustment ~= '' then -- only now: one that was not applied must be possible again
  redis.call('HSETNX', adjustments, adjustment, at)
end
redis.call('EXPIRE', request, whole(retention, 'retention'))
return 'DONE'
