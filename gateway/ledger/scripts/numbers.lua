-- Whole numbers travel as decimal strings: Lua reads 'nan', '-5', '0.5' and '1e3' as numbers, and cjson keeps 14 digits.

local MAX_AMOUNT = 4503599627370496 -- 2^52: what a caller may ask for
local MAX_TOTAL = 9007199254740991 -- 2^53 - 1: beyond it a Lua number is no longer exact
-- The format of C's `long` takes a third of the time, and does where a `long` is wide enough.
local DECIMAL = string.format('%d', MAX_TOTAL) == '9007199254740991' and '%d' or '%.0f'

local function refuse(what)
  error('LEDGER ' .. what, 0)
end

-- By its text: many a number comes more than once. What has some entries to begin with grows less often.
local read = {['0'] = 0, ['1'] = 1, ['2'] = 2, ['3'] = 3, ['4'] = 4}

local function whole(text, what, most)
  local number = read[text]
  if not number then
    if not string.find(text, '^%d+$') or #text > 16 then
      refuse(what .. ' is not a whole number')
    end
    number = text + 0
    read[text] = number
  end
  if number > (most or MAX_AMOUNT) then
    refuse(what .. ' is too large')
  end
  return number
end

local shown = {[0] = '0', [1] = '1', [2] = '2', [3] = '3', [4] = '4'}

local function digits(number)
  local text = shown[number]
  if not text then
    if number > MAX_TOTAL or number < -MAX_TOTAL or number % 1 ~= 0 then
      refuse('a total is out of range')
    end
    text = string.format(DECIMAL, number + 0) -- turns -0 into 0
    shown[number] = text
  end
  return text
end

local function milliseconds()
  local time = redis.call('TIME')
  local text = string.format('%s%03d', time[1], time[2] / 1000)
  local now = text + 0
  shown[now] = text
  return now
end
