-- Ending: what a line that was taken does to its cell when its attempt ends or is corrected, in memory.

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
