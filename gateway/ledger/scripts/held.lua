-- Holding on a candidate that was chosen: in memory, and what the client is told of it.

-- Takes its lines; returns the attempt as it is kept, JSON. `swapped` is JSON too, if there is any.
local function take_candidate(candidate, index, at, now, swapped)
  local figures, gaps, taken = candidate.figures, candidate.gaps, candidate.taken
  for from = 2, candidate.last, 4 do
    local what, amount, cell = figures[from], taken and taken[from] or figures[from + 2], cells[figures[from + 1]]
    if amount >= 0 then
      take(cell, amount, cell.width and math.floor(now / cell.width))
    end
  end
  gaps[1], gaps[2] = index, at
  local count = #gaps
  gaps[count + 1] = swapped and ',"swapped":' .. swapped or ''
  local text = string.format(candidate.kept, unpack(gaps))
  gaps[count + 1] = nil
  return text
end

-- Index, attempt and moment; what is left on each line, and the milliseconds until its window turns or the first room
-- returns.
local function held_reply(candidate, index, attempt, at, now)
  local figures, count = candidate.figures, 3
  local told = {index - 1, attempt, at, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil} -- room for five lines
  for from = 2, candidate.last, 4 do
    local what, cell, reset = figures[from], cells[figures[from + 1]], 0
    if ids[what] then
      reset = turns[what] and turns[what] - now or -1
    elseif cell.first then
      reset = (cell.first + 1) * cell.width + what * 1000 - now
    end
    local left = figures[from + 3] - (cell.used or cell.spent + cell.held)
    told[count + 1], told[count + 2], count = left > 0 and left or 0, reset, count + 2
  end
  return 'HELD' .. string.format(string.rep(' ' .. DECIMAL, count), unpack(told, 1, count))
end
