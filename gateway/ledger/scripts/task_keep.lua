-- task_keep: workers still have these tasks.
-- KEYS  (task, queue)*
-- ARGV  (worker, entry, deliveries)*
-- Reply for each: 0 if it has it no longer, 1 if it has, 2 if its cancelling is asked for

local reply = {}
for i = 1, #KEYS / 2 do
  local task, queue = KEYS[2 * i - 1], KEYS[2 * i]
  local worker, entry, deliveries = unpack(ARGV, 3 * i - 2, 3 * i)
  local kept = 0
  if holds(queue, entry, worker, deliveries) then
    redis.call('XCLAIM', queue, GROUP, worker, 0, entry, 'JUSTID')
    kept = redis.call('HGET', task, 'cancel') and 2 or 1
  end
  table.insert(reply, kept)
end
return reply
