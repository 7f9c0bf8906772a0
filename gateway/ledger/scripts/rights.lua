-- rights: what this user may not do of all that a gateway does with its keys; by asking, nothing is done.
-- ARGV  a name of the realm
-- Reply the commands with a space in between

local NEEDED = [[
  DEL K
  EXISTS K
  EXPIRE K 1
  HDEL K f
  HEXISTS K f
  HGET K f
  HGETALL K
  HINCRBY K f 1
  HKEYS K
  HMGET K f
  HSCAN K 0
  HSET K f v
  HSETNX K f v
  LLEN K
  LPUSH K v
  LRANGE K 0 1
  LTRIM K 0 1
  PERSIST K
  PEXPIRE K 1
  PEXPIREAT K 1
  RPUSH K v
  SCAN 0
  XACK K g 0-1
  XADD K * f v
  XCLAIM K g c 0 0-1
  XDEL K 0-1
  XGROUP CREATE K g 0
  XGROUP DELCONSUMER K g c
  XINFO CONSUMERS K g
  XINFO STREAM K
  XLEN K
  XPENDING K g
  XRANGE K - +
  XREAD STREAMS K 0
  XREADGROUP GROUP g c STREAMS K >
  XREVRANGE K + -
  XTRIM K MINID 0
  ZADD K 1 m
  ZCARD K
  ZRANGE K 0 1
  ZRANGEBYSCORE K 0 1
  ZREM K m
  ZREVRANGE K 0 1
  ZREVRANK K m
  ZSCORE K m
]]
local PARTS = {XGROUP = true, XINFO = true}

local lacking = {}
for line in string.gmatch(NEEDED, '[^\n]+') do
  local words = {}
  for word in string.gmatch(line, '%S+') do
    words[#words + 1] = word == 'K' and ARGV[1] or word
  end
  if not redis.acl_check_cmd(unpack(words)) then
    lacking[#lacking + 1] = PARTS[words[1]] and words[1] .. ' ' .. words[2] or words[1]
  end
end
return table.concat(lacking, ', ')
