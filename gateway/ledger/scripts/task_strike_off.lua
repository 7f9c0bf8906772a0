-- task_strike_off: take off a list, or out of a queue, what rests on a key that is gone. Both are named, as in strike_off.
-- KEYS  key, list
-- ARGV  member of the list, or entry of the queue
-- Reply GONE | KEPT

local key, list = unpack(KEYS)
if redis.call('EXISTS', key) == 1 then
  return 'KEPT'
end
if redis.call('TYPE', list).ok == 'stream' then
  redis.call('XACK', list, GROUP, ARGV[1])
  redis.call('XDEL', list, ARGV[1])
else
  redis.call('ZREM', list, ARGV[1])
end
return 'GONE'
