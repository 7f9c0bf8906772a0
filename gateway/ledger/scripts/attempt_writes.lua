-- Writing attempts: as they are taken, and as they end.

-- Writes a live attempt that was taken; `newest` is the number of the request's last one, and `last` what it was held by.
-- `created` is when its first one was, if there is an earlier one.
local function write_attempt(key, number, newest, made)
  redis.call('HSET', key, 'about', made.about, 'attempts', newest, 'token', made.last, 'held:' .. made.token, number,
    'f' .. number, made.facts, 'a' .. number, made.fixed, 's' .. number, made.state,
    'created', made.created or made.at)
  redis.call('PERSIST', key)
end

-- How an attempt ended, as it is kept, JSON.
local function ended_text(ended)
  return '{"at":"' .. ended.at .. '","token":' .. cjson.encode(ended.token) .. ',"result":"' .. ended.result
    .. '","source":' .. cjson.encode(ended.source) .. ',"images":"' .. ended.images .. '","cost":' .. listed(ended.cost)
    .. ',"booked":' .. listed(ended.booked)
    .. (ended.reason and ',"reason":' .. cjson.encode(ended.reason) or '') .. '}'
end

-- Marks the end in the request's hash, which is forgotten `retention` seconds after its last live attempt ended.
local function mark(key, attempt, state, ended, outcome, retention)
  local number, ended_now = attempt.number, tonumber(attempt.number)
  redis.call('HSET', key, 's' .. number, state, 'e' .. number, ended_text(ended), 'o' .. number, outcome)
  for other = 1, attempt.count do
    if other ~= ended_now and LIVE[redis.call('HGET', key, 's' .. other) or ''] then
      return
    end
  end
  redis.call('EXPIRE', key, retention)
end
