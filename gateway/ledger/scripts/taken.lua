-- taken: what holds took, and whether they are live and listed as such.
-- KEYS  due, the request of each
-- ARGV  members "request id:attempt" ...
-- Reply (what it took (JSON) or '', state or '', 1 if it is listed)*

local reply = {}
for i, member in ipairs(ARGV) do
  local number = string.match(member, ':(%d+)$')
  local kept = redis.call('HMGET', KEYS[i + 1], 'a' .. number, 's' .. number)
  table.insert(reply, {kept[1] or '', kept[2] or '', redis.call('ZSCORE', KEYS[1], member) and 1 or 0})
end
return reply
