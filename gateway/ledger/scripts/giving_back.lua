-- Giving back: an attempt ends for nothing, in memory; one that was already presumed spent is corrected to nothing.

local function may_be_given_back(attempt)
  return LIVE[attempt.state] or attempt.state == 'presumed'
end

-- Returns how it ended, for `mark`, and the entry of the correction if there is one. Its cells must be loaded.
local function plan_giving_back(attempt, token, reason, now)
  if LIVE[attempt.state] then
    return plan_void(attempt, token, reason, now), nil
  end
  local was = whole_views(attempt.ended.cost, 'booked')
  local booked, differences = correct_lines(attempt, {0, 0, 0})
  local ended = {at = digits(now), token = token, result = 'LATE', source = '', reason = reason, images = '0',
    cost = {'0', '0', '0'}, booked = booked}
  local entry = {kind = 'correct', source = 'void', was = attempt.ended.cost, outcome = cjson.encode({reason = reason}),
    cost = {digits(-was[1]), digits(-was[2]), digits(-was[3])},
    images = digits(-whole(attempt.ended.images, 'images')), lines = entry_lines(attempt, differences)}
  return ended, entry
end
