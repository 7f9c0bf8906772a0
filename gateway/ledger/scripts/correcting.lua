-- Correcting an attempt that has ended: what was booked is replaced by what is known better.

-- Replaces what was booked on a presumed attempt by the truth, in memory; returns bookings and differences by line.
local function correct_lines(attempt, micro)
  local booked, differences = {}, {}
  for i, line in ipairs(attempt.lines) do
    local before, actual = whole(attempt.ended.booked[i], 'booked', MAX_TOTAL), 0
    if line.kind == 'usd' then
      actual = micro[VIEWS[line.view]]
      correct(line, actual - before)
    end
    booked[i], differences[i] = digits(actual), digits(actual - before)
  end
  return booked, differences
end
