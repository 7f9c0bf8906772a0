-- Undoing: an attempt is given back of which nobody ever heard, and what it was taken in place of is held again.

-- Takes in memory again what a task's queued hold had, as far as the attempt that is undone had it, so that no limit can
-- be passed; returns it as it is kept, or nil if it ended otherwise, or the task has.
local function hold_again(request, task, attempt, now)
  local swapped, status = attempt.swapped, redis.call('HGET', task, 'status')
  if not swapped or tonumber(swapped.lasted) <= now or (status ~= 'pending' and status ~= 'processing') then
    return nil
  end
  local kept = redis.call('HMGET', request, 's' .. swapped.number, 'a' .. swapped.number)
  if kept[1] ~= 'void' then
    return nil
  end
  local fixed, had = cjson.decode(kept[2]), {}
  for _, line in ipairs(attempt.lines) do
    had[line.field] = line.amount
  end
  local lines = {}
  for _, raw in ipairs(fixed.lines) do
    local line = kept_line(raw)
    local amount = math.min(line.amount, had[line.field] or 0)
    if line.kind ~= 'rolling' and amount > 0 then
      take(cells[line.field], amount)
      raw[3] = digits(amount)
      table.insert(lines, raw)
    end
  end
  fixed.lines = lines
  return #lines > 0 and fixed or nil
end

local function write_again(request, due, id, swapped, fixed)
  redis.call('HSET', request, 's' .. swapped.number, 'queued', 'a' .. swapped.number, cjson.encode(fixed))
  redis.call('HDEL', request, 'e' .. swapped.number, 'o' .. swapped.number)
  redis.call('PERSIST', request)
  redis.call('ZADD', due, swapped.lasted, id .. ':' .. swapped.number)
end
