-- The state of tasks, kept in the hash of each: order (JSON), project, url, hold ("request:attempt"), status, progress,
-- added and updated (ms), entry (its id in the queue), attempt, route, sub:N and result and error (JSON), cost (nano-USD),
-- cancel (1 once asked for), by (the operation that ended it). Who has a task is what the queue's group says: the
-- consumer is the worker, and deliveries tell one taking from the next.

local GROUP, NOBODY = 'workers', '-'
local ENDED = {completed = true, failed = true, cancelled = true}

-- Whoever has an entry, and how often it was delivered; nil if nobody ever had it, or it is gone.
local function holder(queue, entry)
  local pending = redis.pcall('XPENDING', queue, GROUP, entry, entry, 1)
  local row = not pending.err and pending[1]
  if row then
    return row[2], digits(row[4])
  end
end

local function holds(queue, entry, worker, deliveries)
  local who, times = holder(queue, entry)
  return who == worker and times == deliveries
end

-- Moves a task to a status, with more fields of its hash.
local function move(task, counts, from, status, now, ...)
  redis.call('HSET', task, 'status', status, 'updated', digits(now), ...)
  if from ~= status then
    redis.call('HINCRBY', counts, from, -1)
    redis.call('HINCRBY', counts, status, 1)
  end
end

-- An attempt of a task is about to be sent, or was: the store does not know of it. What was submitted before belongs to
-- another one.
local function begin(task, worker, deliveries, route, attempt)
  if redis.call('HGET', task, 'attempt') ~= attempt then
    for _, field in ipairs(redis.call('HKEYS', task)) do
      if string.sub(field, 1, 4) == 'sub:' then
        redis.call('HDEL', task, field)
      end
    end
  end
  local begun = worker .. ' ' .. deliveries .. ' ' .. attempt -- of nobody else, on no other server either
  redis.call('HSET', task, 'attempt', attempt, 'route', route, 'begun', begun, 'updated', digits(milliseconds()))
end
