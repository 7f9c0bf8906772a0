-- Taking a hold: judged in memory, written later.

local OF_ONE = 13
local held_members = {} -- of those that are due, each after the moment in which it lapses

-- Of one request: token, request id, state, lease ms, attempt to release or '', about, candidates, fingerprint, bound or
-- claimed ('' is bound), 1 if there is a binding at all, highest attempt that the gateway knows of, 1 to release only if
-- something is held, request to take the binding over from or ''. Returns its reply, and whether there is a binding.
local function take_hold(from, key, alone, now)
  local token, id, state, lease, release, about, offered, fingerprint, claim, has_binding, newest, only_if_held, former =
    unpack(ARGV, from, from + OF_ONE - 1)
  local balances, request, bound = KEYS[3], KEYS[key], has_binding ~= ''
  local binding = bound and KEYS[key + 1] or nil
  if not LIVE[state] then
    refuse('unknown state')
  elseif release ~= '' and not alone then
    refuse('what gives back goes alone')
  end
  lease = whole(lease, 'lease')
  local candidates, all = read_candidates(offered, now)

  local known = redis.call('HMGET', request, 'attempts', 'token', 'dropped:' .. token, 'held:' .. token, 'created')
  local count = whole(known[1] or '0', 'attempts')
  if known[3] then
    return {'DROPPED'}, bound
  end
  local repeated = known[4] or (known[2] == token and known[1])
  if repeated then -- the answer to the first one was lost
    load_cells(balances, all, now)
    local fixed = cjson.decode(redis.call('HGET', request, 'a' .. repeated))
    local was = candidates[fixed.index]
    return was and held_reply(was, fixed.index, tonumber(repeated), fixed.at, now) or {'DENIED'}, bound -- or offered next
  end
  local other = binding and bound_elsewhere(binding, id, fingerprint, claim, former, token)
  if other then
    return other, bound
  end

  local earlier = release ~= '' and read_attempt(request, digits(whole(release, 'release'))) or nil
  if earlier and not may_be_given_back(earlier) then
    earlier = nil
  end
  load_cells(balances, all, now)
  local given_back, correction
  if earlier then
    require_types(KEYS[4], KEYS[5])
    load_cells(balances, earlier.lines, now)
    given_back, correction = plan_giving_back(earlier, token, 'fallback', now)
  end
  local index, reply = choose(candidates, now)
  if earlier and not index and only_if_held ~= '' then -- it was given back in memory alone
    forget_cells()
    return reply, bound
  elseif earlier then
    later(write_given_back, {request = request, id = id, earlier = earlier, given_back = given_back, correction = correction})
  end
  if not index then
    return reply, bound
  end
  local attempt, candidate = math.max(count, whole(newest, 'newest')) + 1, candidates[index] -- no number is given twice
  local at = digits(now)
  held_members[#held_members + 1] = digits(now + lease)
  held_members[#held_members + 1] = id .. ':' .. attempt
  later(write_held, {request = request, number = attempt, id = id, binding = binding, fingerprint = fingerprint,
    claim = claim, about = about, token = token, last = token, facts = candidate.facts, at = at,
    fixed = take_lines(candidate, index, at, swapped_for(KEYS[4], id, earlier)), state = state, created = known[5]})
  return held_reply(candidate, index, attempt, at, now), bound
end
