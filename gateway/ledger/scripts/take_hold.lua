-- Taking a hold: judged in memory, written later.

local OF_ONE = 5
local held_members = {} -- of those that are due, each after the moment in which it lapses
local writes, bindings, given = {}, {}, nil -- what is written once all that goes together was judged
local lasting = {} -- requests that have a live hold again

-- The reply to a hold that was made before, whose answer was lost.
local function held_before(candidates, request, number, now)
  local fixed = cjson.decode(redis.call('HGET', request, 'a' .. number))
  local was = candidates[fixed.index]
  if not was then
    return 'DENIED' -- it is offered next
  end
  count_left(was)
  local format = reply_format(was, fixed.index, fixed.at, now, fixed.swapped and fixed.swapped.promised)
  return string.format(format, number, unpack(left, 1, was.figures[1]))
end

-- Of one request: token, request id, terms (see `read_terms`), about, candidates. `fresh` tells that nothing is known of it,
-- nor of its binding. Returns its reply, and whether there is a binding.
local function take_hold(from, key, fresh, alone, now)
  local token, id, told, about, offered = unpack(ARGV, from, from + OF_ONE - 1)
  local terms = terms_by_text[told] or read_terms(told, now)
  local balances, request, bound = KEYS[3], KEYS[key], terms.fingerprint ~= nil
  if terms.release and not (alone and GIVES_BACK) then
    refuse('what gives back goes alone')
  elseif terms.release then
    read_promise(request, terms.release)
  end
  local candidates = offers[offered] or read_offer(offered, now)

  local exists = not fresh and redis.call('EXISTS', request) == 1
  local known = exists
    and redis.call('HMGET', request, 'attempts', 'token', 'dropped:' .. token, 'held:' .. token, 'created') or {}
  if known[3] then
    return 'DROPPED', bound
  end
  local repeated = known[4] or (known[2] == token and known[1])
  local other = bound and not fresh and not repeated and bound_elsewhere(KEYS[key + 1], id, terms, token)
  if other then
    return other, bound
  end

  given = not repeated and terms.release and give_back(request, id, terms.release, token, now) or nil
  if not candidates.loaded then
    load_offered(balances, candidates, now)
  end
  if repeated then
    return held_before(candidates, request, repeated, now), bound
  end
  local index, denied = choose(candidates, now)
  if given and not index and terms.only_if_held then -- it was given back in memory alone
    cells, given = {}, nil
  end
  if not index then
    return denied, bound
  end
  local candidate, at = candidates[index], digits(now)
  local number = math.max(exists and whole(known[1] or '0', 'attempts') or 0, terms.newest) + 1 -- none is given twice
  local attempt, fixed = digits(number), take_candidate(candidate, index, at, given and given.swapped)
  candidate.format = candidate.format or reply_format(candidate, index, at, now, promised.turned)
  if candidate.taken then
    count_left(candidate)
  end
  local last = #held_members
  held_members[last + 1], held_members[last + 2] = terms.lapses, id .. ':' .. attempt
  writes[#writes + 1] = attempt_write(request, attempt, attempt, token, token, about, candidate.facts, fixed, terms.state,
    known[5] or at)
  if exists then
    lasting[#lasting + 1] = request
  end
  if bound then
    bindings[#bindings + 1] = {KEYS[key + 1], id, terms.fingerprint, terms.claim, ARGV[5]}
  end
  return string.format(candidate.format, number, unpack(left, 1, candidate.figures[1])), bound
end
