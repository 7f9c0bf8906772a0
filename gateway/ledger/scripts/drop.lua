-- drop: undo a hold whose reply was lost, whether it was made, is still on its way, or never arrives.
-- KEYS  instances, balances, request, due, entries
-- ARGV  instance, operation, the hold's token, request id, reason, retention s
-- Reply DONE | SAME

local _, balances, request, due, entries = unpack(KEYS)
local _, _, token, id, reason, retention = unpack(ARGV)
local now = milliseconds()
retention = whole(retention, 'retention')
require_types(due, entries)
local before = note(now)

local known = redis.call('HMGET', request, 'attempts', 'token')
if known[2] ~= token then
  redis.call('HSET', request, 'dropped:' .. token, '1')
  if not known[1] then
    redis.call('EXPIRE', request, 3600)
  end
  return {before, 'DONE'}
end
local attempt = read_attempt(request, known[1])
if not LIVE[attempt.state] then
  return {before, 'SAME'}
end
load_cells(balances, attempt.lines, now)
local ended = plan_void(attempt, token, reason, now)
store_cells(balances, changed_cells())
mark(request, attempt, 'void', ended, '{}', retention)
redis.call('ZREM', due, id .. ':' .. attempt.number)
return {before, 'DONE'}
