-- hold: for each request take every line of the first candidate that all its lines allow, or nothing. What goes together
-- is judged in its order, each as if it came alone; an error in one of them leaves all undone.
-- KEYS  instances, meta, balances, due, entries, then of each its request, and the binding if there is one
-- ARGV  instance, operation, epoch, retention s, binding s, then of each what `take_hold` reads
-- Reply lines of text: the watermark, then of each HELD index attempt at promised-at (left reset-ms)* | DROPPED |
--       DENIED (candidate line used held wait-ms)* | BOUND request same

local now = milliseconds()
require_epoch(KEYS[2], ARGV[3])
redis.call('XLEN', KEYS[5]) -- what could not be booked is not held; of `due` the first write tells
local replies, key, alone = {note(now)}, 6, #ARGV == 5 + OF_ONE
local fresh = redis.call('EXISTS', unpack(KEYS, 6)) == 0
for from = 6, #ARGV, OF_ONE do
  local bound
  replies[#replies + 1], bound = take_hold(from, key, fresh, alone, now)
  key = key + (bound and 2 or 1)
end
local changes = changed_cells()
if #held_members > 0 then -- before any is struck off: an emptied list is gone, and a slot that moves takes no new one
  redis.call('ZADD', KEYS[4], unpack(held_members))
end
if given then
  write_given_back(given) -- whose rights were asked for
end
for i = 1, #lasting do
  redis.call('PERSIST', lasting[i])
end
if #changes > 0 then
  redis.call('HSET', KEYS[3], unpack(changes)) -- what is refused was so before
end
for i = 1, #writes do
  redis.call(unpack(writes[i]))
end
for i = 1, #bindings do
  bind(unpack(bindings[i]))
end
return table.concat(replies, '\n')
