-- batch_move: let a batch go on to another state, if it is still in one of those it may come from.
-- KEYS  batch
-- ARGV  operation, states it may come from (a space after each; empty: it must be new), next state, milliseconds within
--       which it is to be heard of again, 1 if only once it is overdue, seconds it is kept, field, value, ...
-- Reply 1 | 0

local batch = KEYS[1]
local operation, from, to, within, overdue, kept = unpack(ARGV)
local now = milliseconds()
local state = redis.call('HGET', batch, 'state')

if state and redis.call('HGET', batch, 'operation') == operation then
  return 1 -- repeated after a lost answer
end
if state and not string.find(from, state .. ' ', 1, true) or not state and from ~= '' then
  return 0
end
if overdue == '1' and now <= tonumber(redis.call('HGET', batch, 'until') or '0') then
  return 0
end
redis.call('HSET', batch, 'state', to, 'operation', operation, 'until', digits(now + whole(within, 'within')))
for at = 7, #ARGV, 2 do
  redis.call('HSET', batch, ARGV[at], ARGV[at + 1])
end
redis.call('EXPIRE', batch, whole(kept, 'kept'))
return 1
