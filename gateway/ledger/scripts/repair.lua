-- repair: put balances right. One that has moved since it was read is changed by the differences, so that what went on
-- meanwhile is kept.
-- KEYS  balances
-- ARGV  (cell, value as read or '', right value or '' for none, difference of spent, difference of held)*
-- Reply SET | MOVED | LEFT for each

local changes, gone, reply = {}, {}, {}
for i = 1, #ARGV, 5 do
  local cell, was, right = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local now = redis.call('HGET', KEYS[1], cell) or ''
  if now == was then
    table.insert(right == '' and gone or changes, {cell, right})
    table.insert(reply, 'SET')
  else
    local spent, held = string.match(now == '' and '0 0' or now, '^(%d+) (%d+)$')
    spent, held = (tonumber(spent) or -MAX_TOTAL) + tonumber(ARGV[i + 3]), (tonumber(held) or -MAX_TOTAL) + tonumber(ARGV[i + 4])
    if right == '' or spent < 0 or held < 0 or spent > MAX_TOTAL or held > MAX_TOTAL then
      table.insert(reply, 'LEFT')
    else
      table.insert(changes, {cell, digits(spent) .. ' ' .. digits(held)})
      table.insert(reply, 'MOVED')
    end
  end
end
for _, change in ipairs(changes) do
  redis.call('HSET', KEYS[1], change[1], change[2])
end
for _, change in ipairs(gone) do
  redis.call('HDEL', KEYS[1], change[1])
end
return reply
