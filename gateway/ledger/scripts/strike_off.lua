-- strike_off: take an id off a list if its record is gone. Both are named, so that a cluster that is moving them refuses
-- (TRYAGAIN): a record that has yet to come looks as if it were gone to whoever does not name it.
-- KEYS  record, list
-- ARGV  id
-- Reply GONE | KEPT

if redis.call('EXISTS', KEYS[1]) == 1 then
  return 'KEPT'
end
redis.call('ZREM', KEYS[2], ARGV[1])
return 'GONE'
