-- mark_sent: a queued hold is about to be sent; from now on its lease expires to presumed spent.
-- KEYS  instances, request, due
-- ARGV  instance, operation, request id, attempt, lease ms
-- Reply DONE | SAME | GONE

local _, request, due = unpack(KEYS)
local _, _, id, number, lease = unpack(ARGV)
lease = whole(lease, 'lease')
redis.call('ZCARD', due)
local now = milliseconds()
local before = note(now)
local state = redis.call('HGET', request, 's' .. number)
if not state then
  return {before, 'GONE'}
elseif state == 'sent' then
  return {before, 'SAME'}
elseif state ~= 'queued' then
  return {before, 'GONE'}
end
redis.call('HSET', request, 's' .. number, 'sent')
redis.call('ZADD', due, now + lease, id .. ':' .. number)
return {before, 'DONE'}
