-- Writing attempts as they are taken.

-- The command that writes a live attempt that was taken; `newest` is the number of the request's last one, and `last` what
-- it was held by. `created` is when its first one was.
local function attempt_write(key, number, newest, token, last, about, facts, fixed, state, created)
  return {'HSET', key, 'about', about, 'attempts', newest, 'token', last, 'held:' .. token, number, 'f' .. number, facts,
    'a' .. number, fixed, 's' .. number, state, 'created', created}
end
