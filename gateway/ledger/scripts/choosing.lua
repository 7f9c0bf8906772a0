-- Choosing: the first candidate that all its lines allow, or every line that stands in the way.

-- Milliseconds until a line that lacks so much may pass, or its budget's window turns; -1 where waiting alone does not help.
local function wait_for(what, cell, excess, now)
  if what == 0 then
    return 1000 -- another hold may have ended by then
  elseif ids[what] then
    return turns[what] and turns[what] - now or -1
  end
  for at, count in string.gmatch(buckets(cell), '(%d+):(%d+)') do
    excess = excess - count
    if excess <= 0 then
      return (at + 1) * cell.width + what * 1000 - now
    end
  end
  return -1
end

local left = {nil, nil, nil, nil, nil} -- on each line of the one that was chosen, once it is taken; room for five

-- The first in range that passes, or nil and the reply: for those in range before it every line that stood in the way, as
-- candidate, line, used, held and wait.
local function choose(candidates, now)
  local denied, opened = {'DENIED'}, 0
  for i = 1, #candidates do
    local candidate = candidates[i]
    local figures, most, passes = candidate.figures, nil, true
    if candidate.at_least then
      passes, most, opened = pressure(candidate, opened)
    end
    for at = 2, passes and candidate.last or 0, 4 do
      local cell = figures[at + 1]
      local rest = figures[at + 3] - figures[at + 2] - (cell.used or cell.spent + cell.held)
      left[(at + 2) / 4] = rest
      if rest < 0 or at == most then
        local what = figures[at]
        passes = false
        opened = rest < 0 and ids[what] and WHOLE or opened -- a smaller picture may still fit
        denied[#denied + 1] = string.format(string.rep(DECIMAL .. ' ', 5), i - 1, (at - 2) / 4, cell.used or cell.spent,
          cell.held or 0, wait_for(what, cell, -rest, now))
      end
    end
    if passes then
      return i, nil
    end
  end
  return nil, table.concat(denied, ' ')
end
