-- response_done: follow a response no more, or know it no longer; one that is followed is only hidden then.
-- KEYS  its hash, those that are followed
-- ARGV  id, 'done' or 'forget'
-- Reply DONE

local own, followed = unpack(KEYS)
local id, what = unpack(ARGV)

if what == 'done' then
  redis.call('ZREM', followed, id)
  redis.call('HDEL', own, 'terms')
  if redis.call('HGET', own, 'hidden') then
    redis.call('DEL', own)
  end
elseif redis.call('ZSCORE', followed, id) then
  redis.call('HSET', own, 'hidden', '1')
else
  redis.call('DEL', own)
end
return 'DONE'
