-- The cells in which the lines of an offer count.

-- Reads the cells of an offer that are not known yet, and puts them where its lines have their names.
local function load_offered(key, candidates, now)
  local fields, count = {nil, nil, nil, nil, nil, nil, nil, nil}, 0 -- room for eight, so that it rarely grows
  local kinds = {nil, nil, nil, nil, nil, nil, nil, nil}
  for i = 1, #candidates do
    local figures = candidates[i].figures
    for at = 2, candidates[i].last, 4 do
      local field = figures[at + 1]
      if cells[field] == nil then
        count = count + 1
        fields[count], kinds[count], cells[field] = field, figures[at], false
      end
    end
  end
  local values = count > 0 and redis.call('HMGET', key, unpack(fields)) or fields
  for i = 1, count do
    local field, what = fields[i], kinds[i]
    if what == 0 or ids[what] then
      cells[field] = read_pair(field, values[i] or '0 0')
    else
      cells[field] = read_buckets(field, what, values[i] or '', now)
    end
  end
  for i = 1, #candidates do
    local figures = candidates[i].figures
    for at = 2, candidates[i].last, 4 do
      figures[at + 1] = cells[figures[at + 1]]
    end
  end
  candidates.loaded = true
end
