-- response_remember: keep whose a response is, and with terms, that somebody follows it.
-- KEYS  its hash, those that are followed
-- ARGV  id, seconds for which it is kept, ms until another may follow it, terms or '', (field, value)*
-- Reply DONE, or OTHERS if it is another project's

local own, followed = unpack(KEYS)
local id, kept, silence, terms = unpack(ARGV)

local project = redis.call('HGET', own, 'project')
if project and project ~= ARGV[6] then
  return 'OTHERS'
end
redis.call('HSET', own, unpack(ARGV, 5))
if terms ~= '' then
  redis.call('HSET', own, 'terms', terms)
  redis.call('ZADD', followed, digits(milliseconds() + whole(silence, 'silence')), id)
end
redis.call('EXPIRE', own, kept)
return 'DONE'
