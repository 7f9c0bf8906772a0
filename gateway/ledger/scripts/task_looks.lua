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

local function take_silent(keys, taken, most)
  for _, project in ipairs(projects_due(keys)) do
    local queue, wanted = keys.queue .. project, most - #taken
    local rows = redis.pcall('XPENDING', queue, GROUP, 'IDLE', keys.silence, '-', '+', math.max(wanted, 1))
    if rows.err or redis.call('XPENDING', queue, GROUP)[1] == 0 then
      redis.call('ZREM', keys.looks, project)
    elseif wanted > 0 then
      for _, row in ipairs(rows) do
        claim(keys, taken, project, row[1], true)
      end
      forget_workers(queue, keys.gone)
      local pause = #rows == wanted and 0 or math.ceil(keys.silence / 4)
      redis.call('ZADD', keys.looks, digits(keys.now + pause), project)
    end
  end
end
