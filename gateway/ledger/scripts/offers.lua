-- Offers: the candidates of a hold, three lines of text each: its figures (JSON), its facts (JSON), and how its attempt is
-- kept: JSON with gaps, as of string.format, for its index, its moment, the window or bucket of each line that has one, and
-- what it is taken in place of. A client writes each once and offers it often, so what a script does with it is little.
-- Figures are in one list: how many lines; of each what it counts, its meter, amount and limit; then, if need be, from and
-- to where the candidate is in range (points of use, to: -1 is no end), and pairs of a line and what is taken of its cell
-- where that is not its amount (-1: nothing, an earlier line has taken it). What a line counts is a calendar window of a
-- budget, the seconds of a rolling window, or 0: holds under way. Its meter becomes the name of its cell.

local offers = {} -- by their text: many a request is offered the same
local ids, turns = {}, {} -- of calendar windows: the present one's id, and the millisecond at which it turns

-- Names the cell of a line; returns what its kept text lacks, if anything.
local function name_cell(figures, at, now)
  local what, amount, limit = figures[at], figures[at + 2], figures[at + 3]
  if amount % 1 ~= 0 or limit % 1 ~= 0 or amount < 0 or limit < 0 or amount > MAX_AMOUNT or limit > MAX_AMOUNT then
    refuse('what is asked for is not a whole number')
  elseif what == 0 then
    return nil
  elseif type(what) == 'number' then
    if what < 1 or what > 31536000 or what % 1 ~= 0 then
      refuse('seconds are out of range')
    end
    return digits(math.floor(now / bucket_width(what)))
  elseif not ids[what] then
    ids[what], turns[what] = calendar(what, now)
  end
  local id = promised.windows[figures[at + 1]] or ids[what]
  promised.turned = id ~= ids[what] and promised.at or promised.turned
  figures[at + 1] = figures[at + 1] .. '@' .. id
  return id
end

-- Whether a candidate with these facts makes the very picture that a task was promised.
local function is_promised(facts)
  local one, other = promised.picture, promised.picture and cjson.decode(facts)
  return other and one.route == other.route and one.size == other.size and one.quality == other.quality
    and one.n == other.n
end

-- One candidate; `gaps` are what its text lacks, the first two of them until it is taken, `taken` by line where it differs.
local function read_candidate(figures, facts, kept, now)
  local last = 4 * figures[1] + 1
  local gaps, taken = {0, 0, nil, nil, nil, nil, nil, nil}, nil -- room for eight
  local candidate = {figures = figures, last = last, facts = facts, kept = kept, gaps = gaps, taken = nil, at_least = nil,
    below = nil, fixed = nil, format = nil} -- all its fields, so that it never grows
  if #figures > last then
    taken = {}
    if not is_promised(facts) then
      candidate.at_least, candidate.below = figures[last + 1], figures[last + 2]
    end
    for at = last + 3, #figures, 2 do
      taken[4 * figures[at] - 2] = figures[at + 1]
    end
    candidate.taken = taken
  end
  for at = 2, last, 4 do
    local lacks = name_cell(figures, at, now)
    if lacks and not (taken and taken[at] == -1) then
      gaps[#gaps + 1] = lacks
    end
  end
  return candidate
end

local function read_offer(offered, now)
  local candidates, from, count = {}, 1, 0
  while from <= #offered do
    local first = string.find(offered, '\n', from, true)
    local second = string.find(offered, '\n', first + 1, true)
    local third = string.find(offered, '\n', second + 1, true)
    count = count + 1
    candidates[count] = read_candidate(cjson.decode(string.sub(offered, from, first - 1)),
      string.sub(offered, first + 1, second - 1), string.sub(offered, second + 1, third - 1), now)
    from = third + 1
  end
  offers[offered] = candidates
  return candidates
end
