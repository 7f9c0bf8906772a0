-- mark_sent: a queued hold is about to be sent; from now on its lease expires to presumed spent.
-- KEYS  request, due
-- ARGV  request id, attempt, lease ms
-- Reply DONE | SAME | GONE

local request, due = unpack(KEYS)
local id, number, lease = unpack(ARGV)
lease = whole(lease, 'lease')
redis.call('ZCARD', due)
local state = redis.call('HGET', request, 's' .. number)
if not state then
  return 'GONE'
elseif state == 'sent' then
  return 'SAME'
elseif state ~= 'queued' then
  return 'GONE'
end
redis.call('HSET', request, 's' .. number, 'sent')
redis.call('ZADD', due, milliseconds() + lease, id .. ':' .. number)
return 'DONE'
