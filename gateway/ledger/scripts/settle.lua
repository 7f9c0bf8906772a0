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
local changes = changed_cells()
if #ends > 0 then
  redis.call('ZREM', KEYS[3], unpack(ended_members)) -- fails on a key of another type too
end
if #changes > 0 then
  redis.call('HSET', KEYS[2], unpack(changes)) -- the first write of money
end
for i = 1, #ends do
  local request, id, number, kept, kind, outcome, source, images, cost, lines, ended = unpack(ends[i])
  redis.call('XADD', KEYS[4], '*', 'kind', kind, 'request', id, 'attempt', number, 'about', kept[1], 'facts', kept[2],
    'outcome', outcome, 'source', source, 'images', images, 'cost', cost, 'lines', lines)
  redis.call('HSET', request, 's' .. number, source == 'presumed' and 'presumed' or 'settled', 'e' .. number, ended,
    'o' .. number, outcome)
  forget_later(request, number, kept[6], ARGV[3])
end
return {before, replies}
