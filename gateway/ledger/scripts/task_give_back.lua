-- task_give_back: a worker stops; let another have the task at once.
-- KEYS  task, queue, returned, counts
-- ARGV  worker, task id, entry, deliveries
-- Reply DONE | LOST

local task, queue, returned, counts = unpack(KEYS)
local worker, id, entry, deliveries = unpack(ARGV)
local now = milliseconds()
if not holds(queue, entry, worker, deliveries) then
  return 'LOST'
end
redis.call('XCLAIM', queue, GROUP, NOBODY, 0, entry, 'JUSTID')
redis.call('ZADD', returned, digits(now), id)
if not redis.call('HGET', task, 'attempt') then -- nothing was sent for it yet
  move(task, counts, 'processing', 'pending', now)
end
return 'DONE'
