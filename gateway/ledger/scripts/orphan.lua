-- orphan: a request's client has left it behind; a retry may claim it.
-- KEYS  instances, binding
-- ARGV  instance, operation, request id, seconds
-- Reply DONE

local before = note(milliseconds())
redis.call('HSET', KEYS[2], 'request', ARGV[3], 'fingerprint', '')
redis.call('HDEL', KEYS[2], 'claimed')
redis.call('EXPIRE', KEYS[2], whole(ARGV[4], 'binding seconds'))
return {before, 'DONE'}
