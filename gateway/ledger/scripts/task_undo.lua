-- task_undo: take a task back whose creation came to nothing, as if it had never been; not once a call may have been sent.
-- KEYS  task, queue, tasks of the project, turns, looks, returned, counts
-- ARGV  task id, project
-- Reply DONE | GONE | KEPT

local task, queue, of, turns, looks, returned, counts = unpack(KEYS)
local id, project = unpack(ARGV)
local known = redis.call('HMGET', task, 'status', 'entry', 'attempt')
if not known[1] then
  return 'GONE'
elseif ENDED[known[1]] or known[3] then
  return 'KEPT'
end
redis.call('XACK', queue, GROUP, known[2])
redis.call('XDEL', queue, known[2])
if redis.call('XLEN', queue) == 0 then
  redis.call('DEL', queue)
  redis.call('ZREM', turns, project)
  redis.call('ZREM', looks, project)
end
redis.call('ZREM', returned, id)
redis.call('ZREM', of, id)
redis.call('DEL', task)
redis.call('HINCRBY', counts, known[1], -1)
return 'DONE'
