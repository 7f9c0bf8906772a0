-- adjust: replace what was booked on an attempt that has ended by what it is now known to have cost.
-- KEYS  instances, balances, request, due, entries, adjustments
-- ARGV  instance, operation, adjustment id, request id, attempt, nano-USD x3, micro-USD x3 (official, route, internal),
--       reason, retention s
-- Reply DONE | SAME | GONE | LIVE

local _, balances, request, due, entries, adjustments = unpack(KEYS)
local _, _, adjustment, id, number = unpack(ARGV)
local now = milliseconds()
local nano = whole_views({ARGV[6], ARGV[7], ARGV[8]}, 'cost')
local micro = {whole(ARGV[9], 'cost'), whole(ARGV[10], 'cost'), whole(ARGV[11], 'cost')}
local reason, retention = ARGV[12], whole(ARGV[13], 'retention')
require_all(due, entries, now)
local done = redis.call('HEXISTS', adjustments, adjustment) == 1
local before = note(now)

if done then
  return {before, 'SAME'}
end
local attempt = read_attempt(request, number)
if not attempt then
  return {before, 'GONE'}
elseif LIVE[attempt.state] then
  return {before, 'LIVE'}
end

load_cells(balances, attempt.lines, now)
local was = whole_views(attempt.ended.cost, 'booked')
local booked, differences = correct_lines(attempt, micro)
local ended = {at = digits(now), token = adjustment, result = 'DONE', source = 'invoice', reason = reason,
  images = attempt.ended.images, cost = {digits(nano[1]), digits(nano[2]), digits(nano[3])}, booked = booked}
local first = never_booked(attempt.ended)
local entry = {kind = first and 'settle' or 'adjust', source = 'invoice', images = '0',
  was = not first and attempt.ended.cost or nil, outcome = cjson.encode({reason = reason, id = adjustment}),
  lines = entry_lines(attempt, differences),
  cost = {digits(nano[1] - was[1]), digits(nano[2] - was[2]), digits(nano[3] - was[3])}}

store_cells(balances, changed_cells())
append(entries, id, attempt, entry)
mark(request, attempt, 'settled', ended, redis.call('HGET', request, 'o' .. number) or '{}', retention)
redis.call('HSET', adjustments, adjustment, digits(now))
return {before, 'DONE'}
