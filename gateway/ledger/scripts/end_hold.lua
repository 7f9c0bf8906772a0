-- Ending a hold at its cost: judged in memory, written later.

local OF_ONE = 4
local ended_members, writes = {}, {} -- of those that are due; commands, to be run once all that goes together was judged
local forgettable = {} -- requests with no live hold left

-- Of one hold: token, request id, terms (see `read_terms`), outcome. `opening` is how the text of how it ended begins, up
-- to its token. Returns its reply.
local function end_hold(from, request, opening)
  local token, id, told, outcome = unpack(ARGV, from, from + OF_ONE - 1)
  local terms = terms_by_text[told] or read_terms(told)
  local number = terms.number
  local kept = redis.call('HMGET', request, unpack(terms.asked))
  if not kept[3] then
    return 'GONE'
  elseif not (kept[1] and kept[2] and kept[4]) then
    refuse('an attempt is incomplete')
  end
  local count, was = whole(kept[6], 'attempts'), kept[5] and cjson.decode(kept[5]) or nil
  local live = kept[4] == 'sent' or kept[4] == 'queued'
  if was and was.token == token then
    return was.first and 'FIRST' or was.result
  elseif not live and not corrects(kept[4], terms, was) then
    return 'SAME'
  end

  local lines = held_lines(KEYS[2], kept[3])
  local booking = live and book_live(lines, terms) or book_late(lines, terms, was)
  ended_members[#ended_members + 1] = id .. ':' .. number
  local entry = {'XADD', KEYS[4], '*', 'kind', booking.kind, 'request', id, 'attempt', number, 'about', kept[1],
    'facts', kept[2], 'outcome', outcome, 'source', terms.source, 'images', booking.images, 'cost', booking.cost,
    'lines', booking.told}
  if booking.was then
    entry[#entry + 1], entry[#entry + 2] = 'was', booking.was
  end
  if dated then
    entry[#entry + 1], entry[#entry + 2] = 'at', dated
  end
  writes[#writes + 1] = entry
  writes[#writes + 1] = {'HSET', request, 's' .. number, terms.source == 'presumed' and 'presumed' or 'settled', 'e' .. number,
    opening .. cjson.encode(token) .. booking.ended, 'o' .. number, outcome}
  if ends_with(request, number, count) then
    forgettable[#forgettable + 1] = request
  end
  return live and 'DONE' or booking.result
end
