-- open_ends: which of these attempts the store does not know as ended for good.
-- KEYS  requests
-- ARGV  the attempt of each
-- Reply (index from 1, state: queued, sent, presumed, guessed if it was given back by a guess, or '' if it is not known)*

local found = {}
for i, request in ipairs(KEYS) do
  local state = redis.call('HGET', request, 's' .. ARGV[i])
  if state == 'void' and GUESSED[cjson.decode(redis.call('HGET', request, 'e' .. ARGV[i])).reason] then
    state = 'guessed'
  end
  if state ~= 'settled' and state ~= 'void' then
    table.insert(found, i)
    table.insert(found, state or '')
  end
end
return found
