-- New tasks: what nobody had yet.

-- Takes an entry that was just read; what cannot be begun yet is given back, and where there is much of it the project
-- is passed over, for there is no end of trying it.
local function take_first(keys, taken, project, row, passed)
  local entry, id = row[1], row[2][2]
  local status = read_here(keys, id)
  local last = redis.call('ZREVRANGE', keys.turns, 0, 0, 'WITHSCORES')[2]
  redis.call('ZADD', keys.turns, digits(tonumber(last) + 1), project)
  if status then
    deliver(keys, taken, project, entry, id, status, 1)
  else
    redis.call('XCLAIM', keys.queue .. project, GROUP, NOBODY, 0, entry, 'JUSTID')
    redis.call('ZADD', keys.returned, digits(keys.now), id)
    miss(keys, keys.prefix .. 'task:' .. id, keys.queue .. project, entry)
    passed[project] = #keys.missing == MOST_MISSING or nil
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
    local queue = keys.queue .. next
    local got = redis.pcall('XREADGROUP', 'GROUP', GROUP, keys.worker, 'COUNT', 1, 'STREAMS', queue, '>')
    if got and not got.err then
      take_first(keys, taken, next, got[1][2][1], passed)
    else
      passed[next] = true
      if got then
        miss(keys, queue, keys.turns, next)
      else
        keys.off[keys.turns][next] = true
      end
    end
  end
end
