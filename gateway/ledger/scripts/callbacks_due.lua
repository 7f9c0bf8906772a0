-- callbacks_due: take messages that are due; who takes one and dies leaves it to another after a while.
-- KEYS  due, dead
-- ARGV  token, most, ms until another may take them, ms for which dead ones are kept, what all names begin with
-- Reply (id, its hash, empty if it is not there)*

local due, dead = unpack(KEYS)
local token, most, away, kept, prefix = unpack(ARGV)
local now = milliseconds()
local again = digits(now + whole(away, 'away'))

for _, id in ipairs(redis.call('ZRANGEBYSCORE', dead, '-inf', digits(now - whole(kept, 'kept')), 'LIMIT', 0, 100)) do
  redis.call('ZREM', dead, id)
  redis.call('ZREM', prefix .. 'callbacks:dead:' .. (redis.call('HGET', prefix .. 'callback:' .. id, 'project') or ''), id)
  redis.call('DEL', prefix .. 'callback:' .. id)
end

local reply = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', due, '-inf', digits(now), 'LIMIT', 0, whole(most, 'most'))) do
  local key = prefix .. 'callback:' .. id
  redis.call('ZADD', due, again, id)
  if redis.call('EXISTS', key) == 1 then
    redis.call('HSET', key, 'token', token)
  end
  table.insert(reply, {id, redis.call('HGETALL', key)})
end
return reply
