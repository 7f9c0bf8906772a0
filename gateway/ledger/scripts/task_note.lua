-- task_note: set one field of a task that is known; not for an attempt that is not the last, nor progress after its end.
-- KEYS  task
-- ARGV  field, value, attempt or ''
-- Reply 1 if its cancelling is asked for, else 0

local field, value, attempt = unpack(ARGV)
local known = redis.call('HMGET', KEYS[1], 'status', 'cancel', 'attempt')
local late = (attempt ~= '' and attempt ~= known[3]) or (ENDED[known[1] or ''] and field == 'progress')
if known[1] and not late then
  redis.call('HSET', KEYS[1], field, value, 'updated', digits(milliseconds()))
end
return known[2] and 1 or 0
