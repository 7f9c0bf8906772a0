-- Rolling counts, "bucket:count bucket:count ...", oldest first, sixty buckets a window. In front of several stands what
-- saves adding them up, as a bucket of long ago, which counts for nothing: how many bytes all but the last one take, and
-- their sum. Who does not know of it leaves it out.

-- Buckets that may still count, `used` in all: the oldest is `first`, the last is `newest` with its `count`, and `older`
-- is the text of those before it, which stays as it is. One from the future (the clock was set back) becomes the
-- present one, so it ends; the cell is written then, even if nothing is added to it.
local function count_buckets(field, cell, raw, since, present)
  local width = cell.width
  local used, newest, count, begin, split, read = 0, -1, 0, nil, nil, 1
  for from, at, more, after in string.gmatch(raw, '()(%d+):(%d+) ?()') do
    if from ~= read then
      break
    elseif after - from > 17 then -- no number of 15 digits is too large
      whole(at, field)
      whole(more, field)
    end
    at, more, read = at + 0, more + 0, after
    if at > present then
      at, cell.dirty = present, true
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
    refuse('junk in the balance ' .. field)
  end
  if begin then
    cell.used, cell.newest, cell.count, cell.older = used, newest, count, string.sub(raw, begin, split - 1)
  end
end

-- The same by the sum in front; false if there is none, or if it may not be that of the text behind it.
local function summed_buckets(field, cell, raw, since, present)
  local bytes, used, from = string.match(raw, '^(%d+):(%d+) ()')
  local split = from and from + bytes or #raw + 1
  local newest, count = string.match(raw, '^(%d+):(%d+)$', split)
  if not newest or string.sub(raw, split - 1, split - 1) ~= ' ' or newest + 0 > present then
    return false
  end
  used, count, newest = used + 0, count + 0, newest + 0
  local width, at, more, after = cell.width, nil, nil, nil
  while from < split do
    at, more, after = string.match(raw, '^(%d+):(%d+) ()', from)
    if not at then
      refuse('junk in the balance ' .. field)
    elseif (at + 1) * width > since then
      cell.first = at + 0
      break
    end
    used, from = used - more, after
  end
  if used > MAX_TOTAL or count > MAX_AMOUNT then
    refuse('junk in the balance ' .. field)
  elseif from == split and (newest + 1) * width <= since then
    return true
  end
  cell.first = cell.first or newest
  cell.used, cell.newest, cell.count, cell.older = used + count, newest, count, string.sub(raw, from, split - 1)
  return true
end

local function read_buckets(field, seconds, raw, now)
  local width = bucket_width(seconds)
  local since, present = now - seconds * 1000, math.floor(now / width)
  local cell = {used = 0, first = nil, newest = nil, count = 0, older = '', width = width, present = present, dirty = false}
  if not summed_buckets(field, cell, raw, since, present) then
    count_buckets(field, cell, raw, since, present)
  end
  return cell
end
