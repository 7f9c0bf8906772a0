-- callback_failed: try a message again later, or lay it with the dead.
-- KEYS  callback, due, dead, dead of the project
-- ARGV  id, token, error, ms until it is tried again, or ''
-- Reply DONE | LOST

local callback, due, dead, dead_of = unpack(KEYS)
local id, token, met, wait = unpack(ARGV)
if redis.call('HGET', callback, 'token') ~= token then
  return 'LOST' -- another has it, or it has ended
end
local now = milliseconds()
if wait ~= '' then
  redis.call('ZADD', due, digits(now + whole(wait, 'wait')), id)
else
  redis.call('ZREM', due, id)
  redis.call('ZADD', dead, digits(now), id)
  redis.call('ZADD', dead_of, digits(now), id)
end
redis.call('HSET', callback, 'token', '', 'error', met)
redis.call('HINCRBY', callback, 'tries', 1)
return 'DONE'
