-- Cells of lines: read at once, and written at once.

local function load_cells(key, lines, now)
  local fields, wanted, count = {}, {}, 0
  for i = 1, #lines do
    local line = lines[i]
    if cells[line.field] == nil then
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
      cells[field] = read_buckets(field, line.seconds, values[i] or '', now)
    else
      cells[field] = read_pair(field, values[i] or '0 0')
    end
  end
end

local function store_cells(key, changes)
  if #changes > 0 then
    redis.call('HSET', key, unpack(changes))
  end
end
