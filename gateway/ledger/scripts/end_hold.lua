-- Ending a hold at its cost: judged in memory, written later.

local OF_ONE = 12
local ended_members = {} -- of those that are due

-- Whoever presumes less than is presumed already knows better: of some call that it was not billed.
local function is_lower(nano, was)
  local lower = false
  for view = 1, 3 do
    if nano[view] > was[view] then
      return false
    end
    lower = lower or nano[view] < was[view]
  end
  return lower
end

-- Corrects a presumed cost in memory; returns the entry of the difference.
local function correct_cost(attempt, ended, source, outcome, nano, micro, images)
  local was, differences = whole_views(attempt.ended.cost, 'booked'), nil
  ended.booked, differences = correct_lines(attempt, micro)
  return {kind = 'correct', source = source, outcome = outcome,
    cost = {digits(nano[1] - was[1]), digits(nano[2] - was[2]), digits(nano[3] - was[3])},
    images = digits(images - whole(attempt.ended.images, 'images')), lines = entry_lines(attempt, differences)}
end

local function write_ended(made)
  append(KEYS[4], made.id, made.attempt, made.entry)
  mark(made.request, made.attempt, made.state, made.ended, made.entry.outcome, ARGV[3])
end

-- Of one hold: token, request id, attempt, source, nano-USD x3, micro-USD x3 (official, route, internal), images, outcome.
-- Returns its reply.
local function end_hold(from, request, now)
  local token, id, number, source, official, route, internal, micro1, micro2, micro3, images, outcome =
    unpack(ARGV, from, from + OF_ONE - 1)
  local nano = whole_views({official, route, internal}, 'cost')
  local micro = {whole(micro1, 'cost'), whole(micro2, 'cost'), whole(micro3, 'cost')}
  images = whole(images, 'images')

  local attempt = read_attempt(request, number)
  if not attempt then
    return 'GONE'
  elseif attempt.ended and attempt.ended.token == token then
    return attempt.ended.result
  end
  local live, presumed = LIVE[attempt.state], source == 'presumed'
  local better = attempt.state == 'presumed'
    and (not presumed or is_lower(nano, whole_views(attempt.ended.cost, 'booked')))
  if not live and not better then
    return 'SAME'
  end

  load_cells(KEYS[2], attempt.lines, now, true)
  ended_members[#ended_members + 1] = id .. ':' .. number
  local ended = {at = digits(now), token = token, result = live and 'DONE' or 'LATE', source = source,
    images = digits(images), cost = {official, route, internal}}
  local entry
  if live then
    ended.booked = end_lines(attempt, micro, false)
    entry = {kind = presumed and 'presume' or 'settle', source = source, outcome = outcome, cost = ended.cost,
      images = ended.images, lines = entry_lines(attempt, ended.booked)}
  else
    entry = correct_cost(attempt, ended, source, outcome, nano, micro, images)
  end
  later(write_ended, {request = request, id = id, attempt = attempt, entry = entry, ended = ended,
    state = presumed and 'presumed' or 'settled'})
  return ended.result
end
