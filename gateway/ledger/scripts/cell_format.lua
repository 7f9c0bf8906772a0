-- How a cell of the balance hash is written:
--   usd      "spent held", micro-USD, one cell per meter and calendar window
--   live     "0 held", holds under way
--   rolling  "bucket:count bucket:count ...", oldest first, sixty buckets a window

local function read_pair(field, raw)
  local spent, held = string.match(raw, '^(%d+) (%d+)$')
  if not spent then
    refuse('junk in the balance ' .. field)
  end
  return {spent = whole(spent, field, MAX_TOTAL), held = whole(held, field, MAX_TOTAL)}
end

-- Buckets that may still count. One from the future (the clock was set back) counts as the present one, so it ends.
local function read_buckets(line, raw, now)
  local width = bucket_width(line.seconds)
  local since, present = now - line.seconds * 1000, math.floor(now / width)
  local cell = {buckets = {}, used = 0, width = width}
  for token in string.gmatch(raw, '%S+') do
    local at, count = string.match(token, '^(%d+):(%d+)$')
    if not at then
      refuse('junk in the balance ' .. line.field)
    end
    at, count = math.min(whole(at, line.field), present), whole(count, line.field)
    if (at + 1) * width > since then
      table.insert(cell.buckets, {at = at, count = count})
      cell.used = cell.used + count
    end
  end
  return cell
end

local function written(cell)
  if not cell.buckets then
    return digits(cell.spent) .. ' ' .. digits(cell.held)
  end
  local parts = {}
  for _, bucket in ipairs(cell.buckets) do
    if bucket.count > 0 then
      table.insert(parts, digits(bucket.at) .. ':' .. digits(bucket.count))
    end
  end
  return table.concat(parts, ' ')
end
