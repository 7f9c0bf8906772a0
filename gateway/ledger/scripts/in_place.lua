-- A hold that is taken in place of an earlier one of its request, which is given back in the same step.

local GIVES_BACK = true

-- Gives the earlier one back in memory; returns what is to be written of that, nil if it has ended. If it is a task's that
-- waited, `swapped` is its number and until when it lasted (ms), JSON.
local function give_back(request, id, release, token, now)
  local earlier, due = read_attempt(request, digits(whole(release, 'release'))), KEYS[4]
  if not earlier or not may_be_given_back(earlier) then
    return nil
  end
  require_types(due, KEYS[5])
  whole(ARGV[4], 'retention')
  load_cells(KEYS[3], earlier.lines, now)
  local lasted = earlier.state == 'queued' and redis.call('ZSCORE', due, id .. ':' .. earlier.number)
  local ended, correction = plan_giving_back(earlier, token, 'fallback', now)
  return {request = request, id = id, earlier = earlier, ended = ended, correction = correction,
    swapped = lasted and cjson.encode({number = earlier.number, lasted = lasted}) or nil}
end

local function write_given_back(given)
  if given.correction then -- it had lapsed to presumed spent
    append(KEYS[5], given.id, given.earlier, given.correction)
  end
  mark(given.request, given.earlier, 'void', given.ended, '{}', ARGV[4])
  redis.call('ZREM', KEYS[4], given.id .. ':' .. given.earlier.number)
end
