-- write_keys: put records in place of the ones that were read, all or none, and tell every keyring.
-- KEYS  keys, meta
-- ARGV  (digest, record that was read or '', new record)*
-- Reply 1, or 0 if another writer came first

for i = 1, #ARGV, 3 do
  if (redis.call('HGET', KEYS[1], ARGV[i]) or '') ~= ARGV[i + 1] then
    return 0
  end
end
redis.call('HINCRBY', KEYS[2], 'keys_version', 1)
for i = 1, #ARGV, 3 do
  redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2])
end
return 1
