-- Claims: how a worker comes by tasks. `prefix` is what the names of a realm's keys begin with; those that are found
-- here by what others say lie in the same slot.

-- Makes the worker the holder of an entry and adds it to `taken`. `again` if another had it and was not heard of.
local function deliver(keys, taken, project, entry, id, deliveries, again)
  local task = keys.prefix .. 'task:' .. id
  local status = redis.call('HGET', task, 'status')
  if not status or ENDED[status] then -- its record is gone: there is nothing left to be done
    redis.call('XACK', keys.queue .. project, GROUP, entry)
    redis.call('XDEL', keys.queue .. project, entry)
    return
  end
  if status == 'pending' then
    move(task, keys.counts, status, 'processing', keys.now)
  end
  redis.call('ZREM', keys.returned, id)
  redis.call('ZADD', keys.looks, 'NX', digits(keys.now + keys.silence), project)
  table.insert(taken, {id, project, entry, digits(deliveries), again and '1' or ''})
end

local function claim(keys, taken, project, entry, again)
  local who, deliveries = holder(keys.queue .. project, entry)
  local row = who and redis.call('XCLAIM', keys.queue .. project, GROUP, keys.worker, 0, entry)[1]
  if row then
    deliver(keys, taken, project, entry, row[2][2], tonumber(deliveries) + 1, again and who ~= NOBODY)
  end
end

local function take_returned(keys, taken, most)
  for _, id in ipairs(redis.call('ZRANGE', keys.returned, 0, most - #taken - 1)) do
    local known = redis.call('HMGET', keys.prefix .. 'task:' .. id, 'project', 'entry')
    redis.call('ZREM', keys.returned, id)
    if known[1] then
      claim(keys, taken, known[1], known[2], false)
    end
  end
end

-- Takes what nobody had yet, one of each project in turn; those in `passed` keep their turns.
local function take_new(keys, taken, most, passed)
  local at = 0
  while #taken < most do
    local next = redis.call('ZRANGE', keys.turns, at, at)[1]
    while passed[next] do
      at = at + 1
      next = redis.call('ZRANGE', keys.turns, at, at)[1]
    end
    if not next then
      return
    end
    local got = redis.pcall('XREADGROUP', 'GROUP', GROUP, keys.worker, 'COUNT', 1, 'STREAMS', keys.queue .. next, '>')
    local row = got and not got.err and got[1][2][1]
    if row then
      local last = redis.call('ZREVRANGE', keys.turns, 0, 0, 'WITHSCORES')[2]
      redis.call('ZADD', keys.turns, digits(tonumber(last) + 1), next)
      deliver(keys, taken, next, row[1], row[2][2], 1, false)
    else
      redis.call('ZREM', keys.turns, next)
    end
  end
end
