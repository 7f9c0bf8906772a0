-- One process's word on itself, what happened there since the last one, and the newest refusals.
-- KEYS: pulses, happened, refused. ARGV: instance, word ('' ends it), seconds happened is kept, number of counts,
-- then name and count of each, then refusals, oldest first.

local named = tonumber(ARGV[4])

if ARGV[2] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
  redis.call('EXPIRE', KEYS[1], 86400)
end
for i = 5, 3 + 2 * named, 2 do
  redis.call('HINCRBY', KEYS[2], ARGV[i], ARGV[i + 1])
end
if named > 0 then
  redis.call('EXPIRE', KEYS[2], ARGV[3])
end
if #ARGV > 4 + 2 * named then
  for i = 5 + 2 * named, #ARGV do
    redis.call('LPUSH', KEYS[3], ARGV[i])
  end
  redis.call('LTRIM', KEYS[3], 0, 199)
  redis.call('EXPIRE', KEYS[3], ARGV[3])
end
return 1
