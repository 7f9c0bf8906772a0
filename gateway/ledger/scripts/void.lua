-- void: give a hold back; one that was already presumed spent is corrected to nothing.
-- KEYS  instances, balances, request, due, entries
-- ARGV  instance, operation, token, request id, attempt, reason, retention s
-- Reply DONE | LATE | SAME | GONE

local _, balances, request, due, entries = unpack(KEYS)
local _, _, token, id, number, reason, retention = unpack(ARGV)
local now = milliseconds()
retention = whole(retention, 'retention')
require_types(due, entries)
local before = note(now)

local attempt = read_attempt(request, number)
if not attempt then
  return {before, 'GONE'}
end
if attempt.ended and attempt.ended.token == token then
  return {before, attempt.ended.result}
end
if not LIVE[attempt.state] and attempt.state ~= 'presumed' then
  return {before, 'SAME'}
end

load_cells(balances, attempt.lines, now)
if LIVE[attempt.state] then
  local ended = plan_void(attempt, token, reason, now)
  store_cells(balances, changed_cells())
  mark(request, attempt, 'void', ended, '{}', retention)
  redis.call('ZREM', due, id .. ':' .. number)
  return {before, 'DONE'}
end

local was = whole_views(attempt.ended.cost, 'booked')
local booked, differences = correct_lines(attempt, {0, 0, 0})
local ended = {at = digits(now), token = token, result = 'LATE', source = '', reason = reason, images = '0',
  cost = {'0', '0', '0'}, booked = booked}
local entry = {kind = 'correct', source = 'void', outcome = cjson.encode({reason = reason}),
  cost = {digits(-was[1]), digits(-was[2]), digits(-was[3])},
  images = digits(-whole(attempt.ended.images, 'images')), lines = entry_lines(attempt, differences)}
store_cells(balances, changed_cells())
append(entries, id, attempt, entry)
mark(request, attempt, 'void', ended, '{}', retention)
return {before, 'LATE'}
