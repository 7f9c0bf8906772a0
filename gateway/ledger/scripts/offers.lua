-- Offers: the candidates of a hold, of which the first is taken that all its lines allow.

-- Candidates as a client sends them, {{worst by view, facts, lines, pressure if any}, ...}; their lines are also added to
-- `all`.
local function read_candidates(offered, all, now)
  local candidates = {}
  for i, raw in ipairs(cjson.decode(offered)) do
    local candidate = {worst = raw[1], facts = raw[2], lines = {}}
    whole_views(candidate.worst, 'worst case')
    for j, line in ipairs(raw[3]) do
      candidate.lines[j] = asked_line(line, now)
      all[#all + 1] = candidate.lines[j]
    end
    read_pressure(candidate, raw[4])
    candidates[i] = candidate
  end
  return candidates
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

-- Takes a candidate's lines in memory; returns them as the attempt keeps them. Two rules may count in one cell
-- (a policy's quota and the route's own limit): it is taken once, at the larger amount.
local function take_lines(candidate)
  local kept, first = {}, {}
  for _, line in ipairs(candidate.lines) do
    local before = first[line.field]
    if not before then
      first[line.field] = line
      kept[#kept + 1] = line
    elseif line.amount > before.amount then
      before.amount = line.amount
    end
  end
  for i, line in ipairs(kept) do
    take(line)
    kept[i] = keep_line(line)
  end
  return kept
end

local function held_reply(candidate, index, attempt, at, now)
  local reply = {'HELD', index - 1, attempt, at}
  for i, line in ipairs(candidate.lines) do
    reply[2 * i + 3], reply[2 * i + 4] = remaining(line, now)
  end
  return reply
end
