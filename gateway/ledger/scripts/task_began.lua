-- task_began: an attempt is about to be sent.
-- KEYS  task, queue
-- ARGV  worker, entry, deliveries, route, attempt
-- Reply DONE | LOST | CANCELLED

local task, queue = unpack(KEYS)
local worker, entry, deliveries, route, attempt = unpack(ARGV)
if not holds(queue, entry, worker, deliveries) then
  return 'LOST'
end
if redis.call('HGET', task, 'cancel') then
  return 'CANCELLED'
end
begin(task, worker, deliveries, route, attempt)
return 'DONE'
