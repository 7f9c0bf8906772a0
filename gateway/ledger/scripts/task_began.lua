-- task_began: an attempt is about to be sent.
-- KEYS  task, queue
-- ARGV  worker, entry, deliveries, route, attempt
-- Reply DONE | LOST | CANCELLED

local task, queue = unpack(KEYS)
local worker, entry, deliveries, route, attempt = unpack(ARGV)
if not holds(queue, entry, worker, deliveries) then
  return 'LOST'
end
local known = redis.call('HMGET', task, 'cancel', 'attempt')
if known[1] then
  return 'CANCELLED'
end
if known[2] ~= attempt then -- what was submitted belongs to another attempt
  for _, field in ipairs(redis.call('HKEYS', task)) do
    if string.sub(field, 1, 4) == 'sub:' then
      redis.call('HDEL', task, field)
    end
  end
end
local begun = worker .. ' ' .. deliveries .. ' ' .. attempt -- of nobody else, on no other server either
redis.call('HSET', task, 'attempt', attempt, 'route', route, 'begun', begun, 'updated', digits(milliseconds()))
return 'DONE'
