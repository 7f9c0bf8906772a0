-- Lines of an attempt as it is kept, {kind, field, amount, view or seconds, bucket}, for a hold that is settled: rolling
-- counts stay as they are then, and are not read.

local taken = {} -- by their text: many an attempt took the same

-- Each line becomes {field, cell, amount, view, ...}; without a cell if it is a rolling count, without a view if no budget.
local function read_lines(key, lines)
  local fields, count = {nil, nil, nil, nil, nil, nil, nil, nil}, 0 -- room for eight, so that it rarely grows
  for i = 1, #lines do
    local line = lines[i]
    local kind, field = line[1], line[2]
    line[1] = field
    if kind == 'rolling' then
      line[2], line[4] = false, nil
    else
      line[3] = whole(line[3], 'kept amount')
      if cells[field] == nil then
        count = count + 1
        fields[count], cells[field] = field, false
      end
    end
  end
  local values = count > 0 and redis.call('HMGET', key, unpack(fields)) or fields
  for i = 1, count do
    cells[fields[i]] = read_pair(fields[i], values[i] or '0 0')
  end
  for i = 1, #lines do
    local line = lines[i]
    line[2] = line[2] and cells[line[1]]
  end
  return lines
end

local function held_lines(key, text)
  local what = string.match(text, '^{"index":%d+,"at":"%d+",(.*)$') or text -- the moment differs; others are kept otherwise
  if not taken[what] then
    taken[what] = read_lines(key, cjson.decode(text).lines)
  end
  return taken[what]
end
