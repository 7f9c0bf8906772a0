-- Holding on a candidate that was chosen: in memory, and what the client is told of it.

-- Takes its lines; returns the attempt as it is kept, JSON, which is the same for all that take it at this moment.
-- `swapped` is JSON too, if there is any.
local function take_candidate(candidate, index, at, swapped)
  local figures, gaps, taken = candidate.figures, candidate.gaps, candidate.taken
  for from = 2, candidate.last, 4 do
    local amount, cell = taken and taken[from] or figures[from + 2], figures[from + 1]
    if amount >= 0 then
      take(cell, amount, cell.present)
    end
  end
  if not candidate.fixed then
    gaps[1], gaps[2], gaps[#gaps + 1] = index, at, swapped and ',"swapped":' .. swapped or ''
    candidate.fixed = string.format(candidate.kept, unpack(gaps))
  end
  return candidate.fixed
end

-- The reply to who has taken it, as a format that lacks the attempt and what is left on each line: index, attempt,
-- moment, and the moment whose windows it counts in if that is an earlier one, else 0; what is left on each line, and
-- the milliseconds until its window turns or the first room returns.
local function reply_format(candidate, index, at, now, promised_at)
  local figures, resets, count = candidate.figures, {nil, nil, nil, nil, nil}, 0 -- room for five lines
  for from = 2, candidate.last, 4 do
    local what, cell, reset = figures[from], figures[from + 1], 0
    if ids[what] then
      reset = turns[what] and turns[what] - now or -1
    elseif cell.first then
      reset = (cell.first + 1) * cell.width + what * 1000 - now
    end
    count = count + 1
    resets[count] = reset
  end
  local format = 'HELD %d %%d %s %s' .. string.rep(' %' .. DECIMAL .. ' ' .. DECIMAL, count)
  return string.format(format, index - 1, at, promised_at or '0', unpack(resets, 1, count))
end

-- Works out what is left, where it is not what `choose` found: nothing is taken now, or not what each line says.
local function count_left(candidate)
  local figures = candidate.figures
  for from = 2, candidate.last, 4 do
    local cell = figures[from + 1]
    left[(from + 2) / 4] = math.max(figures[from + 3] - (cell.used or cell.spent + cell.held), 0)
  end
end
