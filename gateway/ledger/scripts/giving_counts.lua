-- Counts of a rolling window that are given back, in memory.

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
