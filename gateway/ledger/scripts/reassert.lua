-- reassert: put a hold back that the store has lost, as it was, without asking any limit: the money may be spent.
-- KEYS  instances, meta, balances, request, due, the binding if there is one
-- ARGV  instance, operation, epoch, token, request id, attempt, state, held at ms, lease ms, about, candidate, index,
--       the moment whose calendar windows it counts in (ms) if that is another, else 0, fingerprint, binding s
-- Reply DONE | SAME

local _, meta, balances, request, due, binding = unpack(KEYS)
local _, _, epoch, token, id, number, state, at, lease, about, offered, index, promised = unpack(ARGV)
local now = milliseconds()
require_epoch(meta, epoch)
if not LIVE[state] then
  refuse('unknown state')
end
number, lease, index = whole(number, 'attempt'), whole(lease, 'lease'), whole(index, 'index')
at = whole(at, 'held at', MAX_TOTAL) -- its windows are those of the moment in which it was held
redis.call('ZCARD', due)
require_rights(due)
promised = whole(promised, 'promised at', MAX_TOTAL)
local candidate = read_record(offered, at, promised > 0 and promised or at)
local before = note(now)

local known = redis.call('HMGET', request, 'attempts', 's' .. number, 'token', 'created')
if known[2] then
  return {before, 'SAME'}
end
load_cells(balances, candidate.lines, now)
local newest = math.max(whole(known[1] or '0', 'attempts'), number)
local fixed = take_lines(candidate, index, digits(at))

store_cells(balances, changed_cells())
redis.call(unpack(attempt_write(request, digits(number), digits(newest), token, newest == number and token or known[3],
  about, candidate.facts, fixed, state, known[4] or digits(at))))
redis.call('PERSIST', request)
redis.call('ZADD', due, now + lease, id .. ':' .. number)
bind(binding, id, ARGV[14], '', ARGV[15])
return {before, 'DONE'}
