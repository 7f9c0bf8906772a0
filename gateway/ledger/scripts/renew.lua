-- renew: heartbeat for live holds.
-- KEYS  due
-- ARGV  lease ms, members "request id:attempt" ...
-- Reply the members that are no longer live

local due = KEYS[1]
local deadline = milliseconds() + whole(ARGV[1], 'lease')
local ended = {}
for i = 2, #ARGV do
  if redis.call('ZSCORE', due, ARGV[i]) then
    redis.call('ZADD', due, deadline, ARGV[i])
  else
    table.insert(ended, ARGV[i])
  end
end
return ended
