-- drop: undo a hold whose reply was lost, whether it was made, is still on its way, or never arrives, and whatever was
-- held for the request since: nothing was sent on it. A task's queued hold that it took the place of is held again.
-- KEYS  instances, balances, request, due, entries, the request's task
-- ARGV  instance, operation, the hold's token, request id, reason, retention s
-- Reply DONE | LATE | SAME

local _, balances, request, due, entries, task = unpack(KEYS)
local _, _, token, id, reason, retention = unpack(ARGV)
local now = milliseconds()
retention = whole(retention, 'retention')
require_all(due, entries, now)
local before = note(now)

local known = redis.call('HMGET', request, 'attempts', 'token', 'held:' .. token)
local number = known[3] or (known[2] == token and known[1])
if not number then
  redis.call('HSET', request, 'dropped:' .. token, '1')
  if not known[1] then
    redis.call('EXPIRE', request, 3600)
  end
  return {before, 'DONE'}
end
local attempt = read_attempt(request, number)
if not may_be_given_back(attempt) then
  return {before, 'SAME'}
end
load_cells(balances, attempt.lines, now)
local ended, entry = plan_giving_back(attempt, token, reason, now)
local again = hold_again(request, task, attempt, now)
store_cells(balances, changed_cells())
if entry then
  append(entries, id, attempt, entry)
end
mark(request, attempt, 'void', ended, '{}', retention)
if again then -- first, as in `hold`
  write_again(request, due, id, attempt.swapped, again)
end
redis.call('ZREM', due, id .. ':' .. number)
return {before, ended.result}
