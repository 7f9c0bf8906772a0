-- Cells of the balance hash, read and checked at once and written at once: `load_cells`, then any number of changes in
-- memory, then `changed_cells` and `store_cells`.

local cells = {}

local function load_cells(key, lines, now)
  local fields, wanted = {}, {}
  for _, line in ipairs(lines) do
    if not wanted[line.field] then
      wanted[line.field] = line
      table.insert(fields, line.field)
    end
  end
  if #fields == 0 then
    return
  end
  local values = redis.call('HMGET', key, unpack(fields))
  for i, field in ipairs(fields) do
    local line = wanted[field]
    if line.kind == 'rolling' then
      cells[field] = read_buckets(line, values[i] or '', now)
    else
      cells[field] = read_pair(field, values[i] or '0 0')
    end
  end
end

-- The changes as arguments of one HSET, made before anything is written.
local function changed_cells()
  local changes = {}
  for field, cell in pairs(cells) do
    if cell.dirty then
      table.insert(changes, field)
      table.insert(changes, written(cell))
    end
  end
  return changes
end

local function store_cells(key, changes)
  if #changes > 0 then
    redis.call('HSET', key, unpack(changes))
  end
end
