-- responses_lapsed: take responses whose follower was not heard of.
-- KEYS  those that are followed
-- ARGV  most, ms until another may follow them, what the names of their hashes begin with
-- Reply (id, its hash, empty if it is not there)*

local followed = KEYS[1]
local most, silence, prefix = unpack(ARGV)
local now = milliseconds()

local reply = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', followed, '-inf', digits(now), 'LIMIT', 0, whole(most, 'most'))) do
  local own = prefix .. id
  if redis.call('HEXISTS', own, 'terms') == 1 or redis.call('EXISTS', own) == 0 then
    redis.call('ZADD', followed, digits(now + whole(silence, 'silence')), id)
    table.insert(reply, {id, redis.call('HGETALL', own)})
  else
    redis.call('ZREM', followed, id)
  end
end
return reply
