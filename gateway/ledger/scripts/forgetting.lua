-- A request is forgotten some time after its last live attempt has ended.

local function forget_later(key, number, count, retention)
  for other = 1, count do
    local state = other ~= number + 0 and redis.call('HGET', key, 's' .. other)
    if state == 'queued' or state == 'sent' then
      return
    end
  end
  redis.call('EXPIRE', key, retention)
end
