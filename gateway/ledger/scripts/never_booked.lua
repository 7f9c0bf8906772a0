-- An attempt that was given back while it was held: nothing was ever booked on it, and what is booked now is its first.

local function never_booked(ended)
  return ended.source == '' and ended.result == 'DONE'
end
