-- Counting: whether a line may pass, what is left on it, and what taking it does to its cell, in memory.

local NEVER = -1 -- waiting alone does not help
local A_MOMENT = 1000 -- milliseconds until another hold may have ended

-- Milliseconds until a budget's window turns.
local function turn(line, now)
  return line.turns and line.turns - now or NEVER
end

-- Returns used, held, and the milliseconds until the line may pass (nil: it passes now).
local function check(line, now)
  local cell = cells[line.field]
  if line.kind == 'rolling' then
    local excess = cell.used + line.amount - line.limit
    if excess <= 0 then
      return cell.used, 0, nil
    end
    for at, count in string.gmatch(buckets(cell), '(%d+):(%d+)') do
      excess = excess - count
      if excess <= 0 then
        return cell.used, 0, (at + 1) * cell.width + line.seconds * 1000 - now
      end
    end
    return cell.used, 0, NEVER
  end
  if cell.spent + cell.held + line.amount <= line.limit then
    return cell.spent, cell.held, nil
  elseif line.kind == 'live' then
    return cell.spent, cell.held, A_MOMENT
  end
  return cell.spent, cell.held, turn(line, now)
end

-- What is left on a line, and the milliseconds until its window turns or the first room returns.
local function remaining(line, now)
  local cell = cells[line.field]
  if line.kind == 'rolling' then
    local reset = cell.first and (cell.first + 1) * cell.width + line.seconds * 1000 - now or 0
    return math.max(line.limit - cell.used, 0), reset
  end
  local reset = line.kind == 'live' and 0 or turn(line, now)
  return math.max(line.limit - cell.spent - cell.held, 0), reset
end

local function take(line, amount)
  local cell = cells[line.field]
  cell.dirty = true
  if line.kind ~= 'rolling' then
    cell.held = cell.held + amount
    return
  end
  cell.used = cell.used + amount
  if cell.newest and cell.newest >= line.bucket then -- a hold put back late counts as the newest
    cell.count = cell.count + amount
    return
  end
  local before = buckets(cell)
  cell.older = before == '' and '' or before .. ' '
  cell.first, cell.newest, cell.count = cell.first or line.bucket, line.bucket, amount
end
