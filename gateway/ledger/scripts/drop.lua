-- drop: undo a hold whose reply was lost, whether it was made, is still on its way, or never arrives.
-- KEYS  balances, request, due, entries
-- ARGV  the hold's token, request id, reason, retention s
-- Reply DONE | SAME

local balances, request, due, entries = unpack(KEYS)
local token, id, reason, retention = unpack(ARGV)
local now = milliseconds()
retention = whole(retention, 'retention')
require_types(due, entries)

local known = redis.call('HMGET', request, 'attempts', 'token')
if known[2] ~= token then
  redis.call('HSET', request, 'dropped:' .. token, '1')
  if not known[1] then
    redis.call('EXPIRE', request, 3600)
  end
  return 'DONE'
end
local attempt = read_attempt(request, known[1])
if not LIVE[attempt.state] then
  return 'SAME'
end
load_cells(balances, attempt.lines, now)
local ended = plan_void(attempt, token, reason, now)
store_cells(balances, changed_cells())
mark(request, attempt, 'void', ended, '{}', retention)
redis.call('ZREM', due, id .. ':' .. attempt.number)
return 'DONE'
