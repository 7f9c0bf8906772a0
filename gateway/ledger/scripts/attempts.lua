-- Attempts of a request, kept in its hash: `aN` what is held (JSON), `fN` facts, `sN` state, `eN` how it ended (JSON),
-- `oN` what the provider's answer said; `held:TOKEN` is the number of the attempt that was held by this token. States:
-- queued, sent (both live), settled, presumed, void.

local VIEWS = {official = 1, route = 2, internal = 3}
local LIVE = {queued = true, sent = true}

local taken = {} -- by their text but for the moment: many an attempt took the same

local function read_taken(text)
  local what = string.match(text, '^{"index":%d+,"at":"%d+",(.*)$') or text
  local known = taken[what]
  if not known then
    local fixed = cjson.decode(text)
    known = {worst = fixed.worst, lines = {}, swapped = fixed.swapped}
    for i, raw in ipairs(fixed.lines) do
      known.lines[i] = kept_line(raw)
    end
    taken[what] = known
  end
  return known
end

local function read_attempt(key, number)
  local kept = redis.call('HMGET', key, 'about', 'f' .. number, 'a' .. number, 's' .. number, 'e' .. number, 'attempts')
  if not kept[3] then
    return nil
  end
  if not (kept[1] and kept[2] and kept[4]) then
    refuse('an attempt is incomplete')
  end
  local took = read_taken(kept[3])
  return {number = number, about = kept[1], facts = kept[2], state = kept[4], worst = took.worst, lines = took.lines,
    swapped = took.swapped, count = whole(kept[6], 'attempts'), ended = kept[5] and cjson.decode(kept[5]) or nil}
end

local function whole_views(views, what)
  return {whole(views[1], what, MAX_TOTAL), whole(views[2], what, MAX_TOTAL), whole(views[3], what, MAX_TOTAL)}
end

-- Ends a live attempt in memory; returns what was booked on each of its lines. `micro` is by view; nil books the hold.
local function end_lines(attempt, micro, unused)
  local booked = {}
  for i, line in ipairs(attempt.lines) do
    local actual = 0
    if line.kind == 'usd' then
      actual = micro and micro[VIEWS[line.view]] or line.amount
    end
    finish(line, actual, unused)
    booked[i] = digits(actual)
  end
  return booked
end

-- Gives a live attempt back in memory; returns how it ended, for `mark`.
local function plan_void(attempt, token, reason, now)
  return {at = digits(now), token = token, result = 'DONE', source = '', reason = reason, images = '0',
    cost = {'0', '0', '0'}, booked = end_lines(attempt, {0, 0, 0}, true)}
end
