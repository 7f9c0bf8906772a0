-- Pressure: the range of budget use in which a candidate may be chosen, in basis points of its budgets' limits.

local WHOLE = 10000

-- As a client sends it, {at least, below or ''}; without one a candidate is always in range.
local function read_pressure(candidate, raw)
  candidate.at_least = raw and whole(raw[1], 'pressure', WHOLE) or 0
  candidate.below = raw and raw[2] ~= '' and whole(raw[2], 'pressure', WHOLE) or nil
end

-- Whether a budget is used to so many points: limit * points / 10000, rounded up, with no product beyond 2^53.
local function reaches(line, points)
  local cell = cells[line.field]
  local least = math.floor(line.limit / WHOLE) * points + math.ceil(line.limit % WHOLE * points / WHOLE)
  return cell.spent + cell.held >= least
end

-- Whether use has come into the candidate's range, or `opened` (points) says that it counts so.
local function in_range(candidate, opened)
  if candidate.at_least <= opened then
    return true
  end
  for _, line in ipairs(candidate.lines) do
    if line.kind == 'usd' and reaches(line, candidate.at_least) then
      return true
    end
  end
  return false
end

-- The number of the budget line that is used most, if use has left the candidate's range; else nil.
local function pressed(candidate)
  local most, highest = nil, -1
  for j, line in ipairs(candidate.below and candidate.lines or {}) do
    if line.kind == 'usd' and reaches(line, candidate.below) then
      local cell = cells[line.field]
      local share = (cell.spent + cell.held) / math.max(line.limit, 1)
      if share > highest then
        most, highest = j, share
      end
    end
  end
  return most
end
