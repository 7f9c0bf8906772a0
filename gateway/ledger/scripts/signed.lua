-- Differences: whole numbers with a minus sign where they take away.

local function signed(text, what)
  if type(text) == 'string' and string.sub(text, 1, 1) == '-' then
    return -whole(string.sub(text, 2), what, MAX_TOTAL)
  end
  return whole(text, what, MAX_TOTAL)
end
