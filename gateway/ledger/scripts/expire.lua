-- expire: end a hold whose lease lapsed. Sent: presumed spent at its worst case. Queued: given back.
-- KEYS  instances, balances, request, due, entries
-- ARGV  instance, operation, request id, attempt, retention s
-- Reply PRESUMED about facts nano-USD x3 | VOID | LIVE | GONE

local _, balances, request, due, entries = unpack(KEYS)
local _, _, id, number, retention = unpack(ARGV)
local now = milliseconds()
retention = whole(retention, 'retention')
require_all(due, entries, now)
local before = note(now)

local member = id .. ':' .. number
local deadline = redis.call('ZSCORE', due, member)
if deadline and tonumber(deadline) > now then
  return {before, {'LIVE'}}
end
local attempt = read_attempt(request, number)
if not attempt or not LIVE[attempt.state] then
  redis.call('ZREM', due, member)
  return {before, {'GONE'}}
end

load_cells(balances, attempt.lines, now)
if attempt.state == 'queued' then
  local ended = plan_void(attempt, '', 'expired', now)
  store_cells(balances, changed_cells())
  mark(request, attempt, 'void', ended, '{}', retention)
  redis.call('ZREM', due, member)
  return {before, {'VOID'}}
end

local cost = attempt.worst
whole_views(cost, 'worst case')
local outcome = cjson.encode({facts = {reason = 'expired'}})
local ended = {at = digits(now), token = '', result = 'DONE', source = 'presumed', reason = 'expired', images = '0',
  cost = cost, booked = end_lines(attempt, nil, false)}
local entry = {kind = 'presume', source = 'presumed', outcome = outcome, images = '0', cost = cost,
  lines = entry_lines(attempt, ended.booked)}
store_cells(balances, changed_cells())
append(entries, id, attempt, entry)
mark(request, attempt, 'presumed', ended, outcome, retention)
redis.call('ZREM', due, member)
return {before, {'PRESUMED', attempt.about, attempt.facts, cost[1], cost[2], cost[3]}}
