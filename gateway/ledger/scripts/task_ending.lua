-- Ending a task.

-- Lets a hold that is still queued for a task lapse now; whoever ends lapsed holds gives it back.
local function release(due, request, hold, now)
  if hold and redis.call('HGET', request, 's' .. string.match(hold, ':(%d+)$')) == 'queued' then
    redis.call('ZADD', due, 'XX', digits(now), hold)
  end
end

-- KEYS  due, request, task, queue, turns, looks, returned, ended, counts, callbacks due, callback
-- `said` has status, body to post or '', kept ms, id, message; further fields of its hash follow.
local function finish(known, said, now, ...)
  local due, request, task, queue, turns, looks, returned, ended, counts, calls, callback = unpack(KEYS)
  redis.call('XACK', queue, GROUP, known.entry)
  redis.call('XDEL', queue, known.entry)
  if redis.call('XLEN', queue) == 0 then
    redis.call('DEL', queue)
    redis.call('ZREM', turns, known.project)
    redis.call('ZREM', looks, known.project)
  end
  redis.call('ZREM', returned, said.id)
  move(task, counts, known.status, said.status, now, ...)
  redis.call('PEXPIRE', task, said.kept)
  redis.call('ZADD', ended, digits(now + said.kept), said.status .. ' ' .. said.id .. ' ' .. known.project)
  release(due, request, known.hold, now)
  if known.url ~= '' and said.body ~= '' then
    redis.call('HSET', callback, 'project', known.project, 'task', said.id, 'url', known.url, 'body', said.body, 'tries', '0',
      'created', digits(now), 'token', '', 'error', '')
    redis.call('ZADD', calls, digits(now), said.message)
  end
end

-- What is known of a task, or nil.
local function read_task(task)
  local row = redis.call('HMGET', task, 'status', 'project', 'entry', 'url', 'hold', 'by', 'attempt')
  if row[1] then
    return {status = row[1], project = row[2], entry = row[3], url = row[4], hold = row[5], by = row[6], attempt = row[7]}
  end
end
