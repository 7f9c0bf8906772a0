-- scan_requests: some keys of requests; a script, so that a cluster asks the node that has them.
-- KEYS  due
-- ARGV  cursor, pattern, about how many to look at
-- Reply next cursor, keys

return redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3])
