-- void: give a hold back; one that was already presumed spent is corrected to nothing.
-- KEYS  instances, balances, request, due, entries
-- ARGV  instance, operation, token, request id, attempt, reason, retention s
-- Reply DONE | LATE | SAME | GONE

local _, balances, request, due, entries = unpack(KEYS)
local _, _, token, id, number, reason, retention = unpack(ARGV)
local now = milliseconds()
retention = whole(retention, 'retention')
require_all(due, entries, now)
local before = note(now)

local attempt = read_attempt(request, number)
if not attempt then
  return {before, 'GONE'}
end
if attempt.ended and attempt.ended.token == token then
  return {before, attempt.ended.result}
end
local known = attempt.state == 'presumed' and attempt.ended.token ~= '' -- by whoever made it; a lease has no token
if not may_be_given_back(attempt) or (known and GUESSED[reason]) then
  return {before, 'SAME'}
end

load_cells(balances, attempt.lines, now)
local ended, entry = plan_giving_back(attempt, token, reason, now)
store_cells(balances, changed_cells())
if entry then
  append(entries, id, attempt, entry)
end
mark(request, attempt, 'void', ended, '{}', retention)
redis.call('ZREM', due, id .. ':' .. number)
return {before, ended.result}
