-- callback_failed: try a message again later, or lay it with the dead.
-- KEYS  callback, due, dead, dead of the project
-- ARGV  id, token, error, when to try again (ms) or ''
-- Reply DONE | LOST

local callback, due, dead, dead_of = unpack(KEYS)
local id, token, met, again = unpack(ARGV)
if redis.call('HGET', callback, 'token') ~= token then
  return 'LOST' -- another has it, or it has ended
end
if again ~= '' then
  redis.call('ZADD', due, digits(whole(again, 'again')), id)
else
  local now = digits(milliseconds())
  redis.call('ZREM', due, id)
  redis.call('ZADD', dead, now, id)
  redis.call('ZADD', dead_of, now, id)
end
redis.call('HSET', callback, 'token', '', 'error', met)
redis.call('HINCRBY', callback, 'tries', 1)
return 'DONE'
