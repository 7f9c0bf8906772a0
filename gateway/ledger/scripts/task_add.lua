-- task_add: put a task in its project's queue, and let its hold last as long as it may wait.
-- KEYS  due, task, queue, tasks of the project, turns, counts
-- ARGV  hold "request id:attempt", until when it lasts (ms), task id, project, order (JSON), URL to call back or ''
-- Reply DONE | SAME | LAPSED

local due, task, queue, of, turns, counts = unpack(KEYS)
local hold, deadline, id, project, order, url = unpack(ARGV)
local now = milliseconds()
deadline = whole(deadline, 'deadline')

if redis.call('EXISTS', task) == 1 then
  return 'SAME'
end
if not redis.call('ZSCORE', due, hold) then
  return 'LAPSED'
end
if redis.call('EXISTS', queue) == 0 then
  redis.call('XGROUP', 'CREATE', queue, 'workers', '0', 'MKSTREAM')
end
local entry = redis.call('XADD', queue, '*', 'task', id)
redis.call('HSET', task, 'order', order, 'project', project, 'url', url, 'hold', hold, 'status', 'pending', 'progress', '0',
  'added', digits(now), 'updated', digits(now), 'entry', entry)
redis.call('ZADD', of, redis.call('HINCRBY', counts, 'added', 1), id)
redis.call('HINCRBY', counts, 'pending', 1)
local last = redis.call('ZREVRANGE', turns, 0, 0, 'WITHSCORES')[2]
redis.call('ZADD', turns, 'NX', digits(tonumber(last or '0') + 1), project) -- behind whoever waits already
redis.call('ZADD', due, 'XX', 'GT', digits(deadline), hold)
return 'DONE'
