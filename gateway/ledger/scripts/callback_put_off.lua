-- callback_put_off: give a message back untried until a time; its tries stay as they are.
-- KEYS  callback, due
-- ARGV  id, token, until when (ms)
-- Reply DONE | LOST

local callback, due = unpack(KEYS)
local id, token, again = unpack(ARGV)
if redis.call('HGET', callback, 'token') ~= token then
  return 'LOST' -- another has it, or it has ended
end
redis.call('ZADD', due, digits(whole(again, 'again')), id)
redis.call('HSET', callback, 'token', '')
return 'DONE'
