-- Ending: what a line that was taken does to its cell when its attempt ends or is corrected, in memory.

-- Gives a rolling count back, as far as its bucket still counts.
local function give_count_back(cell, line)
  local count, from, to = cell.count, nil, nil
  local name = digits(line.bucket) .. ':'
  if cell.newest ~= line.bucket then
    from, to, count = string.find(' ' .. cell.older, ' ' .. name .. '(%d+) ')
    count = tonumber(count or '0')
  end
  local left = math.max(count - line.amount, 0)
  cell.used = cell.used - (count - left)
  if from then
    local rest = left > 0 and name .. digits(left) .. ' ' or ''
    cell.older = string.sub(cell.older, 1, from - 1) .. rest .. string.sub(cell.older, to)
  elseif cell.newest == line.bucket then
    cell.count = left
  end
end

-- Ends a kept line: what was held is free again and `actual` is spent. `unused` also gives rolling counts back.
local function finish(line, actual, unused)
  local cell = cells[line.field]
  if line.kind ~= 'rolling' then
    if cell.held < line.amount then
      refuse('less is held than was taken: ' .. line.field)
    end
    cell.dirty = true
    cell.held = cell.held - line.amount
    cell.spent = cell.spent + actual
  elseif unused then
    cell.dirty = true
    give_count_back(cell, line)
  end
end

local function correct(line, difference)
  local cell = cells[line.field]
  if cell.spent + difference < 0 then
    refuse('less is spent than was booked: ' .. line.field)
  end
  cell.dirty = true
  cell.spent = cell.spent + difference
end
