-- open: the ledger's identity, made once. A later change means that the store was emptied or replaced.
-- KEYS  meta
-- ARGV  a new epoch, schema
-- Reply epoch, schema

redis.call('HSETNX', KEYS[1], 'epoch', ARGV[1])
redis.call('HSETNX', KEYS[1], 'schema', ARGV[2])
return redis.call('HMGET', KEYS[1], 'epoch', 'schema')
