-- lapsed: holds whose lease ran out, longest ago first.
-- KEYS  due
-- ARGV  most
-- Reply members "request id:attempt" ...

return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', digits(milliseconds()), 'LIMIT', 0, whole(ARGV[1], 'most'))
