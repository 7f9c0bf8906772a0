-- settle: replace a hold by what it cost; correct a presumed cost, once.
-- KEYS  balances, request, due, entries
-- ARGV  token, request id, attempt, source, nano-USD x3, micro-USD x3 (official, route, internal), images, outcome,
--       retention s
-- Reply DONE | LATE | SAME | GONE

local balances, request, due, entries = unpack(KEYS)
local token, id, number, source = unpack(ARGV)
local now = milliseconds()
local nano = whole_views({ARGV[5], ARGV[6], ARGV[7]}, 'cost')
local micro = {whole(ARGV[8], 'cost'), whole(ARGV[9], 'cost'), whole(ARGV[10], 'cost')}
local images, outcome, retention = whole(ARGV[11], 'images'), ARGV[12], whole(ARGV[13], 'retention')
require_types(due, entries)

local attempt = read_attempt(request, number)
if not attempt then
  return 'GONE'
end
if attempt.ended and attempt.ended.token == token then
  return attempt.ended.result
end
local live, presumed = LIVE[attempt.state], source == 'presumed'
if not live and (attempt.state ~= 'presumed' or presumed) then
  return 'SAME'
end

load_cells(balances, attempt.lines, now)
local ended = {at = digits(now), token = token, result = live and 'DONE' or 'LATE', source = source, images = digits(images),
  cost = {digits(nano[1]), digits(nano[2]), digits(nano[3])}}
local entry = {source = source, outcome = outcome}
if live then
  ended.booked = end_lines(attempt, micro, false)
  entry.kind, entry.cost, entry.images = presumed and 'presume' or 'settle', ended.cost, ended.images
  entry.lines = entry_lines(attempt, ended.booked)
else
  local before, differences = whole_views(attempt.ended.cost, 'booked'), nil
  ended.booked, differences = correct_lines(attempt, micro)
  entry.kind = 'correct'
  entry.cost = {digits(nano[1] - before[1]), digits(nano[2] - before[2]), digits(nano[3] - before[3])}
  entry.images = digits(images - whole(attempt.ended.images, 'images'))
  entry.lines = entry_lines(attempt, differences)
end

store_cells(balances, changed_cells())
append(entries, id, attempt, entry)
mark(request, attempt, presumed and 'presumed' or 'settled', ended, outcome, retention)
redis.call('ZREM', due, id .. ':' .. number)
return ended.result
