-- Bindings: which request an idempotency key belongs to, and which requests were left behind by their clients.

-- The reply that names the request to which the binding belongs; nil if it is free, or this request's own. It is claimed
-- once: by one operation, however often that is repeated. `terms.former` is a request known to have come to nothing.
local function bound_elsewhere(binding, id, terms, token)
  local known = redis.call('HMGET', binding, 'request', 'fingerprint', 'claimed')
  if not known[1] or known[1] == id or known[1] == terms.former then
    return nil
  end
  if terms.claim ~= '' then
    if known[3] and known[3] ~= token then
      return nil
    end
    redis.call('HSET', binding, 'claimed', token)
    return 'BOUND ' .. known[1] .. ' 1'
  end
  return 'BOUND ' .. known[1] .. (known[2] == terms.fingerprint and ' 1' or ' 0')
end

local function bind(binding, id, fingerprint, claim, seconds)
  if binding and claim == '' and redis.call('HGET', binding, 'request') ~= id then
    redis.call('HSET', binding, 'request', id, 'fingerprint', fingerprint)
    redis.call('EXPIRE', binding, whole(seconds, 'binding seconds'))
  end
end
