-- settle: replace a hold by what it cost; correct a presumed cost, once. Until then it may be presumed lower.
-- KEYS  instances, balances, request, due, entries
-- ARGV  instance, operation, token, request id, attempt, source, nano-USD x3, micro-USD x3 (official, route, internal),
--       images, outcome, retention s
-- Reply DONE | LATE | SAME | GONE

-- Whoever presumes less than is presumed already knows better: of some call that it was not billed.
local function is_lower(nano, was)
  local lower = false
  for view = 1, 3 do
    if nano[view] > was[view] then
      return false
    end
    lower = lower or nano[view] < was[view]
  end
  return lower
end

local _, balances, request, due, entries = unpack(KEYS)
local _, _, token, id, number, source = unpack(ARGV)
local now = milliseconds()
local nano = whole_views({ARGV[7], ARGV[8], ARGV[9]}, 'cost')
local micro = {whole(ARGV[10], 'cost'), whole(ARGV[11], 'cost'), whole(ARGV[12], 'cost')}
local images, outcome, retention = whole(ARGV[13], 'images'), ARGV[14], whole(ARGV[15], 'retention')
require_types(due, entries)
local before = note(now)

local attempt = read_attempt(request, number)
if not attempt then
  return {before, 'GONE'}
end
if attempt.ended and attempt.ended.token == token then
  return {before, attempt.ended.result}
end
local live, presumed = LIVE[attempt.state], source == 'presumed'
local better = attempt.state == 'presumed' and (not presumed or is_lower(nano, whole_views(attempt.ended.cost, 'booked')))
if not live and not better then
  return {before, 'SAME'}
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
  local was, differences = whole_views(attempt.ended.cost, 'booked'), nil
  ended.booked, differences = correct_lines(attempt, micro)
  entry.kind = 'correct'
  entry.cost = {digits(nano[1] - was[1]), digits(nano[2] - was[2]), digits(nano[3] - was[3])}
  entry.images = digits(images - whole(attempt.ended.images, 'images'))
  entry.lines = entry_lines(attempt, differences)
end

store_cells(balances, changed_cells())
append(entries, id, attempt, entry)
mark(request, attempt, presumed and 'presumed' or 'settled', ended, outcome, retention)
redis.call('ZREM', due, id .. ':' .. number)
return {before, ended.result}
