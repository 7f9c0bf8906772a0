-- Claims: how a worker comes by tasks. `prefix` is what the names of a realm's keys begin with; those that are found
-- here by what others say lie in the same slot. While a cluster moves that they may be at another node: what is not here
-- stays on its list, and is noted among the `missing`; what goes `off` a list does so last, for an emptied one is gone too.

local MOST_MISSING = 100 -- noted at once; the rest is come by again

local function miss(keys, key, list, member)
  if #keys.missing < MOST_MISSING then
    table.insert(keys.missing, {key, list, member})
  end
end

-- Status, project and entry of a task, nothing if its record is not here.
local function read_here(keys, id)
  local known = redis.pcall('HMGET', keys.prefix .. 'task:' .. id, 'status', 'project', 'entry')
  return unpack(known.err and {} or known)
end

-- Makes the worker the holder of an entry and adds it to `taken`.
local function deliver(keys, taken, project, entry, id, status, deliveries)
  keys.off[keys.returned][id] = true
  if ENDED[status] then -- there is nothing left to be done
    redis.call('XACK', keys.queue .. project, GROUP, entry)
    redis.call('XDEL', keys.queue .. project, entry)
    return
  end
  if status == 'pending' then
    move(keys.prefix .. 'task:' .. id, keys.counts, status, 'processing', keys.now)
  end
  redis.call('ZADD', keys.looks, 'NX', digits(keys.now + keys.silence), project)
  keys.off[keys.looks][project] = nil
  table.insert(taken, {id, project, entry, digits(deliveries)})
end

-- Takes an entry over, if anybody ever had it.
local function claim(keys, taken, project, entry, id, status)
  local who, deliveries = holder(keys.queue .. project, entry)
  if who and redis.call('XCLAIM', keys.queue .. project, GROUP, keys.worker, 0, entry)[1] then
    deliver(keys, taken, project, entry, id, status, tonumber(deliveries) + 1)
  end
end

-- Takes what was given back; what is not here goes behind the rest, which it would keep waiting.
local function take_returned(keys, taken, most)
  for _, id in ipairs(redis.call('ZRANGE', keys.returned, 0, most - #taken - 1)) do
    local status, project, entry = read_here(keys, id)
    if status and redis.pcall('EXISTS', keys.queue .. project) == 1 then
      keys.off[keys.returned][id] = true
      claim(keys, taken, project, entry, id, status)
    else
      miss(keys, status and keys.queue .. project or keys.prefix .. 'task:' .. id, keys.returned, id)
      redis.call('ZADD', keys.returned, digits(keys.now), id)
    end
  end
end

local function take_off(keys)
  for list, members in pairs(keys.off) do
    local names = {}
    for name in pairs(members) do
      table.insert(names, name)
    end
    for i = 1, #names, 1000 do
      redis.call('ZREM', list, unpack(names, i, math.min(i + 999, #names)))
    end
  end
end
