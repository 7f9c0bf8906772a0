-- Pressure: the range of budget use in which a candidate may be chosen, in basis points of its budgets' limits.

local WHOLE = 10000

-- Returns whether use has come into the candidate's range, or `opened` (points) says that it counts so; where the budget
-- stands that is used most, if use has left the range; and how far the candidates after it are opened.
local function pressure(candidate, opened)
  local figures, at_least, below = candidate.figures, candidate.at_least, candidate.below
  local inside, most, highest = at_least <= opened, nil, -1
  for at = 2, candidate.last, 4 do
    if ids[figures[at]] then
      local cell, limit = figures[at + 1], figures[at + 3]
      local used, part = cell.spent + cell.held, limit % WHOLE -- limit * points / 10000, rounded up, is never beyond 2^53
      inside = inside or used >= (limit - part) / WHOLE * at_least + math.ceil(part * at_least / WHOLE)
      local share = used / math.max(limit, 1)
      if below >= 0 and share > highest and used >= (limit - part) / WHOLE * below + math.ceil(part * below / WHOLE) then
        most, highest = at, share
      end
    end
  end
  if not inside then
    return false, nil, opened
  end
  return true, most, most and math.max(opened, below) or opened
end
