-- Lines of an attempt as it is kept, {kind, field, amount, view or seconds, bucket}, and their cells, for a hold that is
-- settled: rolling counts stay as they are then, and are not read.

local taken = {} -- by their text: many an attempt took the same

local function held_lines(text)
  local from = string.find(text, ',"worst":', 1, true) or 1 -- before it stands the moment, which differs
  local what = string.sub(text, from)
  if not taken[what] then
    taken[what] = cjson.decode(text).lines
  end
  return taken[what]
end

local function load_pairs(key, lines)
  local fields, count = {nil, nil, nil, nil, nil, nil, nil, nil}, 0 -- room for eight, so that it rarely grows
  for i = 1, #lines do
    local kind, field = lines[i][1], lines[i][2]
    if kind ~= 'rolling' and cells[field] == nil then
      count = count + 1
      fields[count], cells[field] = field, false
    end
  end
  local values = count > 0 and redis.call('HMGET', key, unpack(fields)) or fields
  for i = 1, count do
    cells[fields[i]] = read_pair(fields[i], values[i] or '0 0')
  end
end
