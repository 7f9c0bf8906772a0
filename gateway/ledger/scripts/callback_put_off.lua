-- callback_put_off: give a message back untried for a while; its tries stay as they are.
-- KEYS  callback, due
-- ARGV  id, token, ms until it is tried
-- Reply DONE | LOST

local callback, due = unpack(KEYS)
local id, token, wait = unpack(ARGV)
if redis.call('HGET', callback, 'token') ~= token then
  return 'LOST' -- another has it, or it has ended
end
redis.call('ZADD', due, digits(milliseconds() + whole(wait, 'wait')), id)
redis.call('HSET', callback, 'token', '')
return 'DONE'
