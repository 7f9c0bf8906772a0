-- Forgetting: tasks that ended long ago leave nothing behind, not even in the counts.

local function forget(prefix, ended, counts, now, most)
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', ended, '-inf', digits(now), 'LIMIT', 0, most)) do
    local status, id, project = string.match(member, '^(%S+) (%S+) (.*)$')
    local task, of = redis.pcall('DEL', prefix .. 'task:' .. id), redis.pcall('ZREM', prefix .. 'tasks:of:' .. project, id)
    if type(task) == 'number' and type(of) == 'number' then -- else a cluster moves them: next time
      redis.call('ZREM', ended, member)
      redis.call('HINCRBY', counts, status, -1)
    end
  end
end

-- Takes the names of workers out of a queue that were not seen for long and have nothing.
local function forget_workers(queue, gone)
  for _, raw in ipairs(redis.call('XINFO', 'CONSUMERS', queue, GROUP)) do
    local known = {}
    for i = 1, #raw, 2 do
      known[raw[i]] = raw[i + 1]
    end
    if known.pending == 0 and known.idle > gone then
      redis.call('XGROUP', 'DELCONSUMER', queue, GROUP, known.name)
    end
  end
end
