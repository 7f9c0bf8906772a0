-- Booking what a hold has cost that somebody has ended meanwhile, by a guess.

-- Whoever presumes less than is presumed already knows better: of some call that it was not billed.
local function knows_better(source, nano, was)
  local lower, higher = source ~= 'presumed', false
  for view = 1, 3 do
    local now, before = whole(nano[view], 'cost', MAX_TOTAL), whole(was[view], 'booked', MAX_TOTAL)
    lower, higher = lower or now < before, higher or now > before
  end
  return lower and (source ~= 'presumed' or not higher)
end

local function corrects(state, terms, was)
  return (state == 'presumed' and knows_better(terms.source, terms.nano, was.cost))
    or (state == 'void' and GUESSED[was.reason])
end

-- Corrects a hold that has ended; its cells change at once. One that was given back unbooked is booked now.
local function book_late(lines, terms, was)
  local booked, told = booked_lines(lines, terms.micro, was.booked)
  for i = 1, #lines do
    local line, cell = lines[i], lines[i][2]
    if line[4] then
      local difference = terms.micro[line[4]] - whole(was.booked[i], 'booked', MAX_TOTAL)
      cell.dirty, cell.spent = true, cell.spent + difference
      if cell.spent < 0 then
        refuse('less is there than was taken: ' .. line[1])
      end
    end
  end
  local nano, cost, first = terms.nano, was.cost, never_booked(was)
  return {kind = first and booking_kind(terms) or 'correct', was = not first and table.concat(cost, ' ') or nil,
    images = digits(terms.images - whole(was.images, 'images')), told = told,
    cost = digits(nano[1] - cost[1]) .. ' ' .. digits(nano[2] - cost[2]) .. ' ' .. digits(nano[3] - cost[3]),
    result = first and 'FIRST' or 'LATE', -- kept apart: gateways of earlier versions do not know that word
    ended = ended_text(terms, 'LATE', booked, first and ',"first":true')}
end
