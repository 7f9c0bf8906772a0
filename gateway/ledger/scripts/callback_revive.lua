-- callback_revive: send a dead message again, from its first try on.
-- KEYS  callback, due, dead, dead of the project
-- ARGV  operation, id
-- Reply DONE | SAME

local callback, due, dead, dead_of = unpack(KEYS)
local operation, id = unpack(ARGV)
if redis.call('HGET', callback, 'revived') == operation then
  return 'DONE' -- a repeat: the answer to the first one was lost
end
if redis.call('ZREM', dead, id) == 0 then
  return 'SAME'
end
redis.call('ZREM', dead_of, id)
redis.call('HSET', callback, 'tries', '0', 'token', '', 'error', '', 'revived', operation)
redis.call('ZADD', due, digits(milliseconds()), id)
return 'DONE'
