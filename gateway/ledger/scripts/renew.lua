-- renew: heartbeat for live holds.
-- KEYS  instances, due
-- ARGV  instance, operation, lease ms, members "request id:attempt" ...
-- Reply the members that are no longer live

local due, now = KEYS[2], milliseconds()
local deadline = now + whole(ARGV[3], 'lease')
local before = note(now)
local ended = {}
for i = 4, #ARGV do
  if redis.call('ZSCORE', due, ARGV[i]) then
    redis.call('ZADD', due, deadline, ARGV[i])
  else
    table.insert(ended, ARGV[i])
  end
end
return {before, ended}
