-- How a cell of the balance hash is written:
--   usd      "spent held", micro-USD, one cell per meter and calendar window
--   live     "0 held", holds under way
--   rolling  "bucket:count bucket:count ...", oldest first; see `read_buckets`

local function read_pair(field, raw)
  local spent, held = string.match(raw, '^(%d+) (%d+)$')
  if not spent then
    refuse('junk in the balance ' .. field)
  end
  return {spent = bounded(spent, field, MAX_TOTAL), held = bounded(held, field, MAX_TOTAL), older = nil, dirty = false}
end

-- The buckets that count, oldest first.
local function buckets(cell)
  if cell.count == 0 then
    return string.sub(cell.older, 1, -2)
  end
  return cell.older .. digits(cell.newest) .. ':' .. digits(cell.count)
end

local function written(cell)
  if not cell.older then
    return digits(cell.spent) .. ' ' .. digits(cell.held)
  elseif cell.count == 0 or cell.older == '' then
    return buckets(cell)
  end
  return digits(#cell.older) .. ':' .. digits(cell.used - cell.count) .. ' ' .. buckets(cell)
end
