-- settle: replace each hold by what it cost; correct a presumed cost, once. Until then it may be presumed lower. What goes
-- together is settled in its order; an error in one of them leaves all undone.
-- KEYS  instances, balances, due, entries, then the request of each
-- ARGV  instance, operation, retention s, then of each what `end_hold` reads
-- Reply of each DONE | LATE | SAME | GONE

local now = milliseconds()
redis.call('XLEN', KEYS[4]) -- fails on a key of another type, before anything is written
whole(ARGV[3], 'retention')
local replies, before = {}, note(now)
for from = 4, #ARGV, OF_ONE do
  replies[#replies + 1] = end_hold(from, KEYS[#replies + 5], now)
end
write_all(KEYS[2], KEYS[3], 'ZREM', ended_members)
return {before, replies}
