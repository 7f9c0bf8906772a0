-- unlisted: live attempts that are not listed as such, so that no lease of theirs would ever lapse.
-- KEYS  due, requests ...
-- ARGV  their ids ...
-- Reply members "request id:attempt" ...

local LIVE = {queued = true, sent = true}

local found = {}
for i, id in ipairs(ARGV) do
  local count = tonumber(redis.call('HGET', KEYS[i + 1], 'attempts') or '0') or 0
  for number = 1, math.min(count, 1000) do
    local member = id .. ':' .. number
    if LIVE[redis.call('HGET', KEYS[i + 1], 's' .. number) or ''] and not redis.call('ZSCORE', KEYS[1], member) then
      table.insert(found, member)
    end
  end
end
return found
