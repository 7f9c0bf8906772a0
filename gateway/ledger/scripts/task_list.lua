-- task_list: tasks of a project, newest first, as many as were asked for of those looked at.
-- KEYS  tasks of the project
-- ARGV  after which task or '', status or '', how many, how many to look at, what names of tasks begin with
-- Reply the last one looked at or '' if none is left, its hash for each

local of = KEYS[1]
local after, status, most, look, prefix = unpack(ARGV)
local from = 0
if after ~= '' then
  local rank = redis.call('ZREVRANK', of, after)
  if not rank then
    return {''}
  end
  from = rank + 1
end
most = tonumber(most)
local ids = redis.call('ZREVRANGE', of, from, from + tonumber(look) - 1)
local reply = {#ids == tonumber(look) and ids[#ids] or ''}
for _, id in ipairs(ids) do
  if status == '' or redis.call('HGET', prefix .. id, 'status') == status then
    local record = redis.call('HGETALL', prefix .. id)
    if #record > 0 then
      table.insert(reply, record)
    end
  end
  if #reply > most then
    reply[1] = id
    break
  end
end
return reply
