-- Choosing: the first candidate that all its lines allow, or every line that stands in the way.

-- Reads the cells of an offer that are not known yet.
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
end

-- Milliseconds until a line that lacks so much may pass, or its budget's window turns; -1 where waiting alone does not help.
local function wait_for(what, cell, excess, now)
  if what == 0 then
    return 1000 -- another hold may have ended by then
  elseif ids[what] then
    return turns[what] and turns[what] - now or -1
  end
  for at, count in string.gmatch(buckets(cell), '(%d+):(%d+)') do
    excess = excess - count
    if excess <= 0 then
      return (at + 1) * cell.width + what * 1000 - now
    end
  end
  return -1
end

-- The first in range that passes, or nil and the reply: for those in range before it every line that stood in the way, as
-- candidate, line, used, held and wait.
local function choose(candidates, now)
  local denied, opened = {'DENIED'}, 0
  for i = 1, #candidates do
    local candidate = candidates[i]
    local figures, most, passes = candidate.figures, nil, true
    if candidate.at_least then
      passes, most, opened = pressure(candidate, opened)
    end
    for at = 2, passes and candidate.last or 0, 4 do
      local cell, what = cells[figures[at + 1]], figures[at]
      local used, held = cell.used or cell.spent, cell.held or 0
      local excess = used + held + figures[at + 2] - figures[at + 3]
      if excess > 0 or at == most then
        passes = false
        opened = excess > 0 and ids[what] and WHOLE or opened -- a smaller picture may still fit
        denied[#denied + 1] = string.format(string.rep(DECIMAL .. ' ', 5), i - 1, (at - 2) / 4, used, held,
          wait_for(what, cell, excess, now))
      end
    end
    if passes then
      return i, nil
    end
  end
  return nil, table.concat(denied, ' ')
end
