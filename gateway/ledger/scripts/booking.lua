-- Booking the cost of holds that are settled. What one comes to, its booking, is the same for all that end alike: what is
-- written of it in its entry and in its request.

local bookings = {} -- of live holds, which `count` of them share

-- What is booked of each line, JSON, and the lines of the entry, JSON: of a presumed hold the difference to what was
-- booked `before`. `micro` is by view, as texts.
local function booked_lines(lines, micro, before)
  local booked, told = {nil, nil, nil, nil, nil, nil, nil, nil}, {nil, nil, nil, nil} -- room for eight, and four
  for i = 1, #lines do
    local line, actual = lines[i], '0'
    local was = before and whole(before[i], 'booked', MAX_TOTAL)
    if line[4] then
      actual = micro[line[4]]
      told[#told + 1] = cjson.encode(line[1]) .. ',"' .. (was and digits(actual - was) or actual) .. '"'
    end
    booked[i] = actual
  end
  return #booked > 0 and '["' .. table.concat(booked, '","') .. '"]' or '[]',
    #told > 0 and '[[' .. table.concat(told, '],[') .. ']]' or '[]'
end

-- How an attempt ended, as it is kept, JSON, from behind its token on. `more` are further fields.
local function ended_text(terms, result, booked, more)
  return ',"result":"' .. result .. '","source":' .. cjson.encode(terms.source) .. ',"images":"' .. terms.images
    .. '","cost":["' .. table.concat(terms.nano, '","') .. '"],"booked":' .. booked .. (more or '') .. '}'
end

local function booking_kind(terms)
  return terms.source == 'presumed' and 'presume' or 'settle'
end

local function book_live(lines, terms)
  local booking = terms.booking
  if not booking or booking.lines ~= lines then
    local booked, told = booked_lines(lines, terms.micro, nil)
    booking = {kind = booking_kind(terms), images = terms.images,
      cost = table.concat(terms.nano, ' '), told = told, ended = ended_text(terms, 'DONE', booked),
      lines = lines, micro = terms.micro, count = 0}
    terms.booking, bookings[#bookings + 1] = booking, booking
  end
  booking.count = booking.count + 1
  return booking
end

-- Changes the cells of live holds that were booked: all that they have taken is free again.
local function change_cells(booking)
  local lines, micro, count = booking.lines, booking.micro, booking.count
  for i = 1, #lines do
    local line, cell = lines[i], lines[i][2]
    if cell then
      cell.dirty, cell.held = true, cell.held - count * line[3]
      if line[4] then
        cell.spent = cell.spent + count * micro[line[4]]
      end
      if cell.held < 0 then
        refuse('less is there than was taken: ' .. line[1])
      end
    end
  end
end
