-- A hold that is taken in place of an earlier one of its request, which is given back in the same step.

local GIVES_BACK = true
local promised = {windows = {}, picture = nil, at = nil, turned = nil}

-- What a task was promised whose queued hold this takes the place of: that its money is held, in the windows in which it
-- was held (by meter), and for the picture that it was held for, however much of a budget is used meanwhile. `turned` is
-- when it was held (ms), once a window of it is found that has turned since.
local function read_promise(request, release)
  local number = digits(whole(release, 'release'))
  local kept = redis.call('HMGET', request, 's' .. number, 'a' .. number, 'f' .. number)
  if kept[1] ~= 'queued' then
    return
  end
  for _, line in ipairs(read_taken(kept[2]).lines) do
    local meter, id = string.match(line.field, '^(.*)@([^@]*)$')
    if line.kind == 'usd' and meter then
      promised.windows[meter] = id
    end
  end
  promised.picture, promised.at = cjson.decode(kept[3]), cjson.decode(kept[2]).at
end

-- Gives the earlier one back in memory; returns what is to be written of that, nil if it has ended. If it is a task's that
-- waited, `swapped` is its number, until when it lasted (ms), and `turned` of what was promised, JSON.
local function give_back(request, id, release, token, now)
  local earlier, due = read_attempt(request, digits(whole(release, 'release'))), KEYS[4]
  if not earlier or not may_be_given_back(earlier) then
    return nil
  end
  require_all(due, KEYS[5], now)
  whole(ARGV[4], 'retention')
  load_cells(KEYS[3], earlier.lines, now)
  local lasted = earlier.state == 'queued' and redis.call('ZSCORE', due, id .. ':' .. earlier.number)
  local ended, correction = plan_giving_back(earlier, token, 'fallback', now)
  return {request = request, id = id, earlier = earlier, ended = ended, correction = correction,
    swapped = lasted and cjson.encode({number = earlier.number, lasted = lasted, promised = promised.turned}) or nil}
end

local function write_given_back(given)
  if given.correction then -- it had lapsed to presumed spent
    append(KEYS[5], given.id, given.earlier, given.correction)
  end
  mark(given.request, given.earlier, 'void', given.ended, '{}', ARGV[4])
  redis.call('ZREM', KEYS[4], given.id .. ':' .. given.earlier.number)
end
