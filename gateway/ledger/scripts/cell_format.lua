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

-- Buckets that may still count, `used` in all: the oldest is `first`, the last is `newest` with its `count`, and `older`
-- is the text of those before it, which stays as it is. One from the future (the clock was set back) counts as the
-- present one, so it ends.
local function read_buckets(line, raw, now)
  local width = bucket_width(line.seconds)
  local since, present = now - line.seconds * 1000, math.floor(now / width)
  local cell = {used = 0, first = nil, newest = nil, count = 0, older = '', width = width, dirty = false}
  local used, newest, count, begin, split, read = 0, -1, 0, nil, nil, 1
  for from, at, more, after in string.gmatch(raw, '()(%d+):(%d+) ?()') do
    if from ~= read then
      break
    elseif after - from > 17 then -- no number of 15 digits is too large
      whole(at, line.field)
      whole(more, line.field)
    end
    at, more, read = at + 0, more + 0, after
    if at > present then
      at = present
    end
    if (at + 1) * width > since then
      used = used + more
      if at > newest then
        cell.first, begin = cell.first or at, begin or from
        newest, count, split = at, more, from
      else
        count = count + more
      end
    end
  end
  if read <= #raw then
    refuse('junk in the balance ' .. line.field)
  end
  if begin then
    cell.used, cell.newest, cell.count, cell.older = used, newest, count, string.sub(raw, begin, split - 1)
  end
  return cell
end

local function written(cell)
  if not cell.older then
    return digits(cell.spent) .. ' ' .. digits(cell.held)
  elseif cell.count == 0 then
    return string.sub(cell.older, 1, -2)
  end
  return cell.older .. digits(cell.newest) .. ':' .. digits(cell.count)
end
