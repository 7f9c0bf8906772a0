-- settle: replace each hold by what it cost; correct a presumed cost, once. Until then it may be presumed lower. What goes
-- together is settled in its order; an error in one of them leaves all undone.
-- KEYS  instances, balances, due, entries, then the request of each
-- ARGV  instance, operation, retention s, then of each what `end_hold` reads
-- Reply lines of text: the watermark, then of each DONE | LATE | FIRST (see `SettleResult`) | SAME | GONE

local now = milliseconds()
date_entries(KEYS[4], now)
local forgotten = digits(now + 1000 * whole(ARGV[3], 'retention'))
local replies, count, opening = {note(now)}, 1, '{"at":"' .. digits(now) .. '","token":'
for from = 4, #ARGV, OF_ONE do
  replies[count + 1], count = end_hold(from, KEYS[count + 4], opening), count + 1
end
for i = 1, #bookings do
  change_cells(bookings[i])
end
local changes = changed_cells()
for i = 1, #forgettable do
  redis.call('PEXPIREAT', forgettable[i], forgotten) -- alone it does no harm: no hold lasts so long
end
for i = 1, #writes do
  redis.call(unpack(writes[i])) -- the first one is an entry; what may be refused behind it is not money
end
if #changes > 0 then
  redis.call('HSET', KEYS[2], unpack(changes))
end
note_dates(KEYS[4])
if #ended_members > 0 then
  redis.call('ZREM', KEYS[3], unpack(ended_members)) -- last: a hold that is listed is ended by whoever sweeps
end
return table.concat(replies, '\n')
