-- callbacks_dead: messages that nobody took, newest first.
-- KEYS  dead ones, of all or of a project
-- ARGV  most, what names of messages begin with
-- Reply (id, its hash)*

local reply = {}
for _, id in ipairs(redis.call('ZREVRANGE', KEYS[1], 0, tonumber(ARGV[1]) - 1)) do
  local record = redis.call('HGETALL', ARGV[2] .. id)
  if #record > 0 then
    table.insert(reply, {id, record})
  end
end
return reply
