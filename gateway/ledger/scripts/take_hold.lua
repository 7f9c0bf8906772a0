-- Taking a hold: judged in memory, written later.

local OF_ONE = 13
local held_members = {} -- of those that are due, each after the moment in which it lapses
local held, given = {}, nil -- what is written once all that goes together was judged

-- Of one request: token, request id, state, lease ms, attempt to release or '', about, candidates, fingerprint, bound or
-- claimed ('' is bound), 1 if there is a binding at all, highest attempt that the gateway knows of, 1 to release only if
-- something is held, request to take the binding over from or ''. Returns its reply, and whether there is a binding.
local function take_hold(from, key, alone, now)
  local token, id, state, lease, release, about, offered, fingerprint, claim, has_binding, newest, only_if_held, former =
    unpack(ARGV, from, from + OF_ONE - 1)
  local balances, request, bound = KEYS[3], KEYS[key], has_binding ~= ''
  local binding = bound and KEYS[key + 1] or nil
  if state ~= 'sent' and state ~= 'queued' then
    refuse('unknown state')
  elseif release ~= '' and not (alone and GIVES_BACK) then
    refuse('what gives back goes alone')
  end
  lease = whole(lease, 'lease')
  local candidates = read_offer(offered, now)

  local exists = redis.call('EXISTS', request) == 1
  local known = exists
    and redis.call('HMGET', request, 'attempts', 'token', 'dropped:' .. token, 'held:' .. token, 'created') or {}
  local count = whole(known[1] or '0', 'attempts')
  if known[3] then
    return 'DROPPED', bound
  end
  local repeated = known[4] or (known[2] == token and known[1])
  if repeated then -- the answer to the first one was lost
    load_offered(balances, candidates, now)
    local fixed = cjson.decode(redis.call('HGET', request, 'a' .. repeated))
    local was = candidates[fixed.index]
    return was and held_reply(was, fixed.index, repeated, fixed.at, now) or 'DENIED', bound -- or offered next
  end
  local other = binding and bound_elsewhere(binding, id, fingerprint, claim, former, token)
  if other then
    return other, bound
  end

  given = release ~= '' and give_back(request, id, release, token, now) or nil
  load_offered(balances, candidates, now)
  local index, denied = choose(candidates, now)
  if given and not index and only_if_held ~= '' then -- it was given back in memory alone
    cells, given = {}, nil
  end
  if not index then
    return denied, bound
  end
  local attempt, at = math.max(count, whole(newest, 'newest')) + 1, digits(now) -- no number is given twice
  held_members[#held_members + 1] = digits(now + lease)
  held_members[#held_members + 1] = id .. ':' .. attempt
  held[#held + 1] = {request = request, number = attempt, id = id, binding = binding, fingerprint = fingerprint,
    claim = claim, about = about, token = token, last = token, facts = candidates[index].facts, at = at, state = state,
    fixed = take_candidate(candidates[index], index, at, now, given and given.swapped), created = known[5], known = exists}
  return held_reply(candidates[index], index, attempt, at, now), bound
end
