-- Writing attempts as they are taken.

-- Writes a live attempt that was taken; `newest` is the number of the request's last one, and `last` what it was held by.
-- `created` is when its first one was, if there is an earlier one; `known` tells that something is, which may be forgotten.
local function write_attempt(key, number, newest, made)
  redis.call('HSET', key, 'about', made.about, 'attempts', newest, 'token', made.last, 'held:' .. made.token, number,
    'f' .. number, made.facts, 'a' .. number, made.fixed, 's' .. number, made.state,
    'created', made.created or made.at)
  if made.known then
    redis.call('PERSIST', key)
  end
end
