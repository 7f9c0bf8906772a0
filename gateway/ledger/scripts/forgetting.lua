-- A request is forgotten some time after its last live attempt has ended.

-- Whether it has no live attempt but this one.
local function ends_with(key, number, count)
  for other = 1, count do
    local state = other ~= number + 0 and redis.call('HGET', key, 's' .. other)
    if state == 'queued' or state == 'sent' then
      return false
    end
  end
  return true
end
