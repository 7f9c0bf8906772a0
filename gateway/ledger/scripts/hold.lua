-- hold: for each request take every line of the first candidate that all its lines allow, or nothing. What goes together
-- is judged in its order, each as if it came alone; an error in one of them leaves all undone.
-- KEYS  instances, meta, balances, due, entries, then of each its request, and the binding if there is one
-- ARGV  instance, operation, epoch, retention s, binding s, then of each what `take_hold` reads
-- Reply of each HELD index attempt at (left reset-ms)* | DENIED (candidate line used held wait-ms)* | DROPPED |
--       BOUND request same

local now = milliseconds()
require_epoch(KEYS[2], ARGV[3])
redis.call('XLEN', KEYS[5]) -- what could not be booked is not held; of `due` the first write tells
whole(ARGV[4], 'retention')
local replies, key, alone = {}, 6, #ARGV == 5 + OF_ONE
local before = note(now)
for from = 6, #ARGV, OF_ONE do
  local bound
  replies[#replies + 1], bound = take_hold(from, key, alone, now)
  key = key + (bound and 2 or 1)
end
write_all(KEYS[3], KEYS[4], 'ZADD', held_members)
return {before, replies}
