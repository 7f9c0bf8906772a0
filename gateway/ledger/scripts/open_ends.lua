-- open_ends: which of these attempts the store does not know as ended for good.
-- KEYS  requests
-- ARGV  the attempt of each
-- Reply (index from 1, state: queued, sent, presumed, or '' if it is not known)*

local found = {}
for i, request in ipairs(KEYS) do
  local state = redis.call('HGET', request, 's' .. ARGV[i])
  if state ~= 'settled' and state ~= 'void' then
    table.insert(found, i)
    table.insert(found, state or '')
  end
end
return found
