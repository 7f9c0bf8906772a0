-- task_end: end a task, and queue its callback.
-- KEYS  due, request, task, queue, turns, looks, returned, ended, counts, callbacks due, callback
-- ARGV  operation, task id, status, kept ms, message id, body to post or '', worker or '' (whoever has it), deliveries,
--       (field, value)*
-- Reply DONE | SAME | LOST | GONE

local operation, id, status, kept, message, body, worker, deliveries = unpack(ARGV)
local now = milliseconds()
local said = {id = id, status = status, message = message, body = body, kept = whole(kept, 'kept')}
if not ENDED[status] then
  refuse('unknown status')
end
local known = read_task(KEYS[3])
if not known then
  return 'GONE'
elseif ENDED[known.status] then
  return known.by == operation and 'DONE' or 'SAME'
elseif worker ~= '' and status ~= 'completed' and not holds(KEYS[4], known.entry, worker, deliveries) then
  return 'LOST' -- but work that was done is never thrown away
end
finish(known, said, now, 'by', operation, unpack(ARGV, 9))
return 'DONE'
