-- What is left of balances that are asked for.

-- What is left on a line, and the milliseconds until its window turns or the first room returns, -1 where none will.
local function remaining(line, now)
  local cell = cells[line.field]
  if line.kind == 'rolling' then
    local reset = cell.first and (cell.first + 1) * cell.width + line.seconds * 1000 - now or 0
    return math.max(line.limit - cell.used, 0), reset
  end
  local reset = line.kind == 'live' and 0 or line.turns and line.turns - now or -1
  return math.max(line.limit - cell.spent - cell.held, 0), reset
end
