-- Looks for silent workers, whose tasks others take.

-- Projects where it is time to, a few each time; those too that a clock ahead has put off by more than anybody does.
local function projects_due(keys)
  local due = redis.call('ZRANGEBYSCORE', keys.looks, '-inf', digits(keys.now), 'LIMIT', 0, 20)
  local latest = '(' .. digits(keys.now + keys.silence)
  for _, project in ipairs(redis.call('ZRANGEBYSCORE', keys.looks, latest, '+inf', 'LIMIT', 0, 20)) do
    table.insert(due, project)
  end
  return due
end

-- Takes over what a silent worker has, or what was given back and nobody took; an entry that is gone is of nobody. What
-- is not here counts as heard of a while ago, and makes room for those behind it.
local function take_over(keys, taken, project, entry, who, pause)
  local row = redis.call('XRANGE', keys.queue .. project, entry, entry)[1]
  local id = row and row[2][2]
  local status = id and read_here(keys, id)
  if status then
    claim(keys, taken, project, entry, id, status)
  elseif id then
    miss(keys, keys.prefix .. 'task:' .. id, keys.queue .. project, entry)
    redis.call('XCLAIM', keys.queue .. project, GROUP, who, 0, entry, 'IDLE', digits(keys.silence - pause), 'JUSTID')
  else
    redis.call('XACK', keys.queue .. project, GROUP, entry)
  end
end

-- Looks at no more entries than may be taken, for what is not here is looked at in vain; a project that had more of
-- them than that is due again at once, behind the others.
local function take_silent(keys, taken, most)
  local wanted, pause = most - #taken, math.ceil(keys.silence / 4)
  for _, project in ipairs(projects_due(keys)) do
    local queue = keys.queue .. project
    local rows = redis.pcall('XPENDING', queue, GROUP, 'IDLE', keys.silence, '-', '+', math.max(wanted, 1))
    if rows.err then
      miss(keys, queue, keys.looks, project)
    elseif redis.call('XPENDING', queue, GROUP)[1] == 0 then
      keys.off[keys.looks][project] = true
    elseif wanted > 0 then
      for _, row in ipairs(rows) do
        take_over(keys, taken, project, row[1], row[2], pause)
      end
      forget_workers(queue, keys.gone)
      redis.call('ZADD', keys.looks, digits(keys.now + (#rows == wanted and 0 or pause)), project)
      wanted = wanted - #rows
    end
  end
end
