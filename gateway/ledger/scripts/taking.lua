-- Taking of a cell, in memory.

-- `bucket` is that of a rolling count; a hold that is put back late counts as the newest.
local function take(cell, amount, bucket)
  cell.dirty = true
  if not cell.older then
    cell.held = cell.held + amount
    return
  end
  cell.used = cell.used + amount
  if cell.newest and cell.newest >= bucket then
    cell.count = cell.count + amount
    return
  end
  local before = buckets(cell)
  cell.older = before == '' and '' or before .. ' '
  cell.first, cell.newest, cell.count = cell.first or bucket, bucket, amount
end
