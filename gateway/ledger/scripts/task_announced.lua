-- task_announced: what is about to be handed over for the attempt that began last.
-- KEYS  task, queue
-- ARGV  worker, entry, deliveries, attempt, field, value
-- Reply DONE | LOST

local task, queue = unpack(KEYS)
local worker, entry, deliveries, attempt, field, value = unpack(ARGV)
if not holds(queue, entry, worker, deliveries) or redis.call('HGET', task, 'attempt') ~= attempt then
  return 'LOST'
end
redis.call('HSET', task, field, value, 'updated', digits(milliseconds()))
return 'DONE'
