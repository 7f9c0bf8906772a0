-- batch_find: tell what is known of a batch, and whether it should have been heard of by now.
-- KEYS  batch
-- Reply (its hash, 1 | 0)

local known = redis.call('HGETALL', KEYS[1])
local latest = redis.call('HGET', KEYS[1], 'until') or '0'
return {known, milliseconds() > whole(latest, 'until') and 1 or 0}
