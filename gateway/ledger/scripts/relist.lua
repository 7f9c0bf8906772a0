-- relist: list holds that are live, and no others.
-- KEYS  due, the request of each
-- ARGV  lease ms for those that were missing, members "request id:attempt" ...
-- Reply LISTED | REMOVED | SAME for each

local LIVE = {queued = true, sent = true}

local deadline = milliseconds() + whole(ARGV[1], 'lease')
local gone, reply = {}, {}
for i = 2, #ARGV do
  local state = redis.call('HGET', KEYS[i], 's' .. string.match(ARGV[i], ':(%d+)$'))
  local listed = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if LIVE[state or ''] and not listed then
    redis.call('ZADD', KEYS[1], deadline, ARGV[i])
    table.insert(reply, 'LISTED')
  elseif listed and not LIVE[state or ''] then
    table.insert(gone, ARGV[i])
    table.insert(reply, 'REMOVED')
  else
    table.insert(reply, 'SAME')
  end
end
for _, member in ipairs(gone) do -- last: an emptied list is gone, and a slot that moves takes no new one
  redis.call('ZREM', KEYS[1], member)
end
return reply
