-- hint_leave: leave a provider's call for the gateway that waits for it.
-- KEYS  mailbox
-- ARGV  call, most calls in it, seconds for which it stays
-- Reply 1, or 0 if it is full

local mailbox = KEYS[1]
local call, most, kept = unpack(ARGV)
if redis.call('LLEN', mailbox) >= whole(most, 'most') then
  return 0
end
redis.call('RPUSH', mailbox, call)
redis.call('EXPIRE', mailbox, whole(kept, 'kept'))
return 1
