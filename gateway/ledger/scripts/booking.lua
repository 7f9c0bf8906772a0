-- Booking the cost of a hold that is settled, in memory.

-- What ends is booked on its lines, in memory: of a live one all it has taken, of a presumed one the difference. Returns
-- what is booked of each, JSON, and the lines of its entry, JSON. `micro` is by view, as texts.
local function book(lines, micro, before)
  local booked, told = {nil, nil, nil, nil, nil, nil, nil, nil}, {nil, nil, nil, nil} -- room for eight, and four
  for i = 1, #lines do
    local line, actual = lines[i], '0'
    local kind, field, cell = line[1], line[2], cells[line[2]]
    local was = before and whole(before[i], 'booked', MAX_TOTAL) or 0
    if kind == 'usd' then
      actual = micro[line[4]]
      local difference = whole(actual, 'cost') - was
      cell.spent = cell.spent + difference
      told[#told + 1] = cjson.encode(field) .. ',"' .. (before and digits(difference) or actual) .. '"'
    end
    if kind == 'usd' or kind == 'live' and not before then
      cell.dirty, cell.held = true, cell.held - (before and 0 or whole(line[3], 'kept amount'))
      if cell.held < 0 or cell.spent < 0 then
        refuse('less is there than was taken: ' .. field)
      end
    end
    booked[i] = actual
  end
  return #booked > 0 and '["' .. table.concat(booked, '","') .. '"]' or '[]',
    #told > 0 and '[[' .. table.concat(told, '],[') .. ']]' or '[]'
end

-- Whoever presumes less than is presumed already knows better: of some call that it was not billed.
local function knows_better(source, nano, was)
  local lower, higher = source ~= 'presumed', false
  for view = 1, 3 do
    local now, before = whole(nano[view], 'cost', MAX_TOTAL), whole(was[view], 'booked', MAX_TOTAL)
    lower, higher = lower or now < before, higher or now > before
  end
  return lower and (source ~= 'presumed' or not higher)
end
