-- responses_keep: say that responses are still followed.
-- KEYS  those that are followed
-- ARGV  ms until another may follow them, id*
-- Reply how many

local later = digits(milliseconds() + whole(ARGV[1], 'silence'))
for at = 2, #ARGV do
  redis.call('ZADD', KEYS[1], 'XX', later, ARGV[at])
end
return #ARGV - 1
