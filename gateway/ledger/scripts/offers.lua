-- Offers: the candidates of a hold, of which the first is taken that all its lines allow.

local offers = {} -- by their text: many a request is offered the same

-- Candidates as a client sends them, {{worst by view, facts, lines, pressure if any}, ...}, and all their lines.
local function read_candidates(offered, now)
  local candidates, all = {}, {}
  if offers[offered] then
    return offers[offered], offers[offered].all
  end
  for i, raw in ipairs(cjson.decode(offered)) do
    local candidate = {worst = raw[1], facts = raw[2], lines = {}, at_least = 0, below = nil, taken = nil, amounts = nil,
      kept = nil} -- all its fields, so that it never grows
    whole_views(candidate.worst, 'worst case')
    for j, line in ipairs(raw[3]) do
      candidate.lines[j] = asked_line(line, now)
      all[#all + 1] = candidate.lines[j]
    end
    read_pressure(candidate, raw[4])
    candidates[i] = candidate
  end
  offers[offered], candidates.all = candidates, all
  return candidates, all
end

-- The first in range that passes, or nil; and for those in range before it every line that stood in the way.
local function choose(candidates, now)
  local denied, opened = {'DENIED'}, 0
  for i, candidate in ipairs(candidates) do
    if in_range(candidate, opened) then
      local most = pressed(candidate)
      local passes = not most
      opened = most and math.max(opened, candidate.below) or opened
      for j, line in ipairs(candidate.lines) do
        local used, held, wait = check(line, now)
        if wait or j == most then
          passes = false
          opened = wait and line.kind == 'usd' and WHOLE or opened -- a smaller picture may still fit
          local at = #denied
          denied[at + 1], denied[at + 2], denied[at + 3], denied[at + 4] = i - 1, j - 1, used, held
          denied[at + 5] = wait or turn(line, now)
        end
      end
      if passes then
        return i, denied
      end
    end
  end
  return nil, denied
end

local function held_reply(candidate, index, attempt, at, now)
  local reply = {'HELD', index - 1, attempt, at}
  for i, line in ipairs(candidate.lines) do
    reply[2 * i + 3], reply[2 * i + 4] = remaining(line, now)
  end
  return reply
end
