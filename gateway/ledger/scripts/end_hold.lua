-- Ending a hold at its cost: judged in memory, written later.

local OF_ONE = 12
local ended_members, ends = {}, {} -- of those that are due; what is written once all that goes together was judged

-- Of one hold: token, request id, attempt, source, nano-USD x3, micro-USD x3 (official, route, internal), images, outcome.
-- Returns its reply.
local function end_hold(from, request, now)
  local token, id, number, source, official, route, internal, micro1, micro2, micro3, images, outcome =
    unpack(ARGV, from, from + OF_ONE - 1)
  local nano, cost = {official, route, internal}, official .. ' ' .. route .. ' ' .. internal
  for view = 1, 3 do
    whole(nano[view], 'cost', MAX_TOTAL)
    whole(ARGV[from + 6 + view], 'cost')
  end
  whole(images, 'images')
  local kept = redis.call('HMGET', request, 'about', 'f' .. number, 'a' .. number, 's' .. number, 'e' .. number, 'attempts')
  if not kept[3] then
    return 'GONE'
  elseif not (kept[1] and kept[2] and kept[4]) then
    refuse('an attempt is incomplete')
  end
  kept[6] = whole(kept[6], 'attempts')
  local was = kept[5] and cjson.decode(kept[5]) or nil
  local live = kept[4] == 'queued' or kept[4] == 'sent'
  if was and was.token == token then
    return was.result
  elseif not live and not (kept[4] == 'presumed' and knows_better(source, nano, was.cost)) then
    return 'SAME'
  end

  local lines = held_lines(kept[3])
  load_pairs(KEYS[2], lines)
  ended_members[#ended_members + 1] = id .. ':' .. number
  local result, kind, told = 'DONE', source == 'presumed' and 'presume' or 'settle', images
  local booked, entry = book(lines, {official = micro1, route = micro2, internal = micro3}, not live and was.booked or nil)
  if not live then
    result, kind, told = 'LATE', 'correct', digits(images - whole(was.images, 'images'))
    for view = 1, 3 do
      nano[view] = digits(nano[view] - was.cost[view])
    end
    cost = table.concat(nano, ' ')
  end
  local ended = '{"at":"' .. digits(now) .. '","token":' .. cjson.encode(token) .. ',"result":"' .. result .. '","source":'
    .. cjson.encode(source) .. ',"images":"' .. images .. '","cost":["' .. official .. '","' .. route .. '","' .. internal
    .. '"],"booked":' .. booked .. '}'
  ends[#ends + 1] = {request, id, number, kept, kind, outcome, source, told, cost, entry, ended}
  return result
end
