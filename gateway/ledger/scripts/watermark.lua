-- Watermark: how far each gateway's own operations got, "number ms". A gateway that reads less than it knows to be done
-- learns that the store came back older: writes were lost in a failover, or an old copy was restored.
-- KEYS[1]  instances
-- ARGV[1]  instance, ARGV[2]  the number of this operation, counting from 1

-- Notes this operation; returns the highest one noted before.
local function note(now)
  local number, noted = whole(ARGV[2], 'operation'), redis.call('HGET', KEYS[1], ARGV[1])
  local before = noted and string.match(noted, '^(%d+) %d+$') or '0'
  redis.call('HSET', KEYS[1], ARGV[1], (before + 0 > number and before or ARGV[2]) .. ' ' .. digits(now))
  return before
end
