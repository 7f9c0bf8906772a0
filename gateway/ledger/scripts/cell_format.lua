-- How a cell of the balance hash is written:
--   usd      "spent held", micro-USD, one cell per meter and calendar window
--   live     "0 held", holds under way
--   rolling  "bucket:count bucket:count ...", oldest first; see `read_buckets`

local PAIR = DECIMAL .. ' ' .. DECIMAL

local function read_pair(field, raw)
  local spent, held = string.match(raw, '^(%d+) (%d+)$')
  if not spent then
    refuse('junk in the balance ' .. field)
  end
  spent, held = spent + 0, held + 0
  if spent > MAX_TOTAL or held > MAX_TOTAL then
    refuse('the balance is too large: ' .. field)
  end
  return {spent = spent, held = held, older = nil, dirty = false}
end

local function written(cell)
  if not cell.older then
    if cell.spent > MAX_TOTAL or cell.held > MAX_TOTAL then
      refuse('a total is out of range')
    end
    return string.format(PAIR, cell.spent, cell.held)
  elseif cell.count == 0 or cell.older == '' then
    return buckets(cell)
  end
  local older, all = cell.used - cell.count, DECIMAL .. ':' .. DECIMAL
  if cell.used > MAX_TOTAL then
    refuse('a total is out of range')
  end
  return string.format(all .. ' %s' .. all, #cell.older, older, cell.older, cell.newest, cell.count)
end
