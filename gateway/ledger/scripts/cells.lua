-- Cells of the balance hash, read and checked at once and written at once: `load_cells`, then any number of changes in
-- memory, then `changed_cells` and `store_cells`. What is known already is not read again.

local cells = {}

-- Of a hold that is settled the counts stay as they are: `but_counts`, and they are not read.
local function load_cells(key, lines, now, but_counts)
  local fields, wanted, count = {}, {}, 0
  for i = 1, #lines do
    local line = lines[i]
    if cells[line.field] == nil and not (but_counts and line.kind == 'rolling') then
      count = count + 1
      fields[count], wanted[count], cells[line.field] = line.field, line, false
    end
  end
  if count == 0 then
    return
  end
  local values = redis.call('HMGET', key, unpack(fields))
  for i = 1, count do
    local field, line = fields[i], wanted[i]
    if line.kind == 'rolling' then
      cells[field] = read_buckets(line, values[i] or '', now)
    else
      cells[field] = read_pair(field, values[i] or '0 0')
    end
  end
end

local function forget_cells()
  cells = {}
end

-- The changes as arguments of one HSET, made before anything is written.
local function changed_cells()
  local changes, count = {}, 0
  for field, cell in pairs(cells) do
    if cell.dirty then
      changes[count + 1], changes[count + 2] = field, written(cell)
      count = count + 2
    end
  end
  return changes
end

local function store_cells(key, changes)
  if #changes > 0 then
    redis.call('HSET', key, unpack(changes))
  end
end
