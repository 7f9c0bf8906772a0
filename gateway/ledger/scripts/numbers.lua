-- Whole numbers travel as decimal strings: Lua reads 'nan', '-5', '0.5' and '1e3' as numbers, and cjson keeps 14 digits.

local MAX_AMOUNT = 4503599627370496 -- 2^52: what a caller may ask for
local MAX_TOTAL = 9007199254740991 -- 2^53 - 1: beyond it a Lua number is no longer exact
-- The format of C's `long` takes a third of the time, and does where a `long` is wide enough.
local DECIMAL = string.format('%d', MAX_TOTAL) == '9007199254740991' and '%d' or '%.0f'

local function refuse(what)
  error('LEDGER ' .. what, 0)
end

-- Of a text that is known to be nothing but digits.
local function bounded(text, what, most)
  local number = text + 0
  if #text > 16 or number > most then
    refuse(what .. ' is too large')
  end
  return number
end

local read = {} -- by its text: many a number comes more than once

local function whole(text, what, most)
  local number = read[text]
  if not number then
    if type(text) ~= 'string' or #text > 16 or not string.find(text, '^%d+$') then
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

-- A difference: like `whole`, with a minus sign where it takes away.
local function signed(text, what)
  if type(text) == 'string' and string.sub(text, 1, 1) == '-' then
    return -whole(string.sub(text, 2), what, MAX_TOTAL)
  end
  return whole(text, what, MAX_TOTAL)
end

local shown = {}

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
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end
