-- task_keep: workers still have these tasks. A store that came back older is told again of a call that has begun.
-- KEYS  (task, queue)*
-- ARGV  (worker, entry, deliveries, route or '', attempt or 0)*
-- Reply for each: 0 if it has it no longer, 1 if it has, 2 if its cancelling is asked for

local reply = {}
for i = 1, #KEYS / 2 do
  local task, queue = KEYS[2 * i - 1], KEYS[2 * i]
  local worker, entry, deliveries, route, attempt = unpack(ARGV, 5 * i - 4, 5 * i)
  local kept = 0
  if holds(queue, entry, worker, deliveries) then
    redis.call('XCLAIM', queue, GROUP, worker, 0, entry, 'JUSTID')
    if tonumber(attempt) > tonumber(redis.call('HGET', task, 'attempt') or '0') then
      begin(task, worker, deliveries, route, attempt)
    end
    kept = redis.call('HGET', task, 'cancel') and 2 or 1
  end
  table.insert(reply, kept)
end
return reply
