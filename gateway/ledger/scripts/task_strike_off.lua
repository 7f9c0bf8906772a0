-- task_strike_off: take an entry out of a queue if the record of its task is gone. Both are named, as in strike_off.
-- KEYS  record, queue
-- ARGV  entry
-- Reply GONE | KEPT

local record, queue = unpack(KEYS)
if redis.call('EXISTS', record) == 1 then
  return 'KEPT'
end
redis.call('XACK', queue, GROUP, ARGV[1])
redis.call('XDEL', queue, ARGV[1])
return 'GONE'
