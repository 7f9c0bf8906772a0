-- task_cancel: end a task that nobody has taken; of one that is under way note that it is asked for.
-- KEYS  due, request, task, queue, turns, looks, returned, ended, counts, callbacks due, callback
-- ARGV  operation, task id, kept ms, message id, body to post or ''
-- Reply its hash, empty if it is not known

local operation, id, kept, message, body = unpack(ARGV)
local now = milliseconds()
kept = whole(kept, 'kept')
local known = read_task(KEYS[3])
if known and known.status == 'pending' then
  finish(known, {id = id, status = 'cancelled', message = message, body = body, kept = kept}, now, 'by', operation, 'cancel', '1')
elseif known and not ENDED[known.status] then
  redis.call('HSET', KEYS[3], 'cancel', '1')
end
return redis.call('HGETALL', KEYS[3])
