-- Writing how attempts end.

-- How an attempt ended, as it is kept, JSON.
local function ended_text(ended)
  return '{"at":"' .. ended.at .. '","token":' .. cjson.encode(ended.token) .. ',"result":"' .. ended.result
    .. '","source":' .. cjson.encode(ended.source) .. ',"images":"' .. ended.images .. '","cost":' .. listed(ended.cost)
    .. ',"booked":' .. listed(ended.booked)
    .. (ended.reason and ',"reason":' .. cjson.encode(ended.reason) or '') .. '}'
end

-- Marks the end in the request's hash, which is forgotten `retention` seconds after its last live attempt ended.
local function mark(key, attempt, state, ended, outcome, retention)
  local number = attempt.number
  redis.call('HSET', key, 's' .. number, state, 'e' .. number, ended_text(ended), 'o' .. number, outcome)
  if ends_with(key, number, attempt.count) then
    redis.call('EXPIRE', key, retention)
  end
end
