-- hints_take: take calls of providers out of a mailbox, oldest first.
-- KEYS  mailbox
-- ARGV  most
-- Reply call*

local mailbox = KEYS[1]
local most = whole(ARGV[1], 'most')
local calls = redis.call('LRANGE', mailbox, 0, most - 1)
redis.call('LTRIM', mailbox, most, -1)
return calls
