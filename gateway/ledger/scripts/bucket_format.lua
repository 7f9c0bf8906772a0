-- Buckets of a rolling count, sixty a window, and how those that count are written.

local function bucket_width(seconds)
  return math.ceil(seconds * 1000 / 60)
end

-- The buckets that count, oldest first.
local function buckets(cell)
  if cell.count == 0 then
    return string.sub(cell.older, 1, -2)
  end
  return cell.older .. digits(cell.newest) .. ':' .. digits(cell.count)
end
