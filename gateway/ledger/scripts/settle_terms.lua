-- Terms: how a hold ends, in one text of nine with commas in between: attempt, source, images, nano-USD x3, micro-USD x3
-- (official, route, internal). Many a hold ends like another.

local terms_by_text = {}

local function read_terms(text)
  local number, source, images, nano1, nano2, nano3, micro1, micro2, micro3 =
    string.match(text, '^([^,]*),([^,]*),(%d+),(%d+),(%d+),(%d+),(%d+),(%d+),(%d+)$')
  if not number then
    refuse('a cost is not a whole number')
  end
  local nano, micro = {nano1, nano2, nano3}, {official = micro1, route = micro2, internal = micro3}
  if #nano1 > 15 or #nano2 > 15 or #nano3 > 15 or #images > 15 then -- no number of 15 digits is too large
    whole(images, 'images')
    for view = 1, 3 do
      whole(nano[view], 'cost', MAX_TOTAL)
    end
  end
  if #micro1 > 15 or #micro2 > 15 or #micro3 > 15 then
    for _, cost in pairs(micro) do
      whole(cost, 'cost')
    end
  end
  local terms = {number = number, source = source, images = images, nano = nano, micro = micro, booking = nil,
    asked = {'about', 'f' .. number, 'a' .. number, 's' .. number, 'e' .. number, 'attempts'}}
  terms_by_text[text] = terms
  return terms
end
