-- callback_delivered: end a message, wherever it is by now.
-- KEYS  callback, due, dead, dead of the project
-- ARGV  id
-- Reply DONE

redis.call('DEL', KEYS[1])
for i = 2, 4 do
  redis.call('ZREM', KEYS[i], ARGV[1])
end
return 'DONE'
