-- Calendar windows, UTC. Days are counted from 1970-01-01; the calendar arithmetic is Howard Hinnant's (chrono dates).

local HOUR_MS, DAY_MS = 3600000, 86400000
local dates = {} -- {date, year, month, day of the month} by the days until then: a month is found by the same as a day

local function date(days)
  if dates[days] then
    return dates[days]
  end
  local doe = (days + 719468) % 146097
  local shift = doe - (doe - doe % 1460) / 1460 + (doe - doe % 36524) / 36524 - (doe - doe % 146096) / 146096
  local yoe = (shift - shift % 365) / 365
  local doy = doe - 365 * yoe - (yoe - yoe % 4) / 4 + (yoe - yoe % 100) / 100
  local since = (5 * doy + 2) % 153 -- fifths of days of the month, in a year that begins with March
  local mp = (5 * doy + 2 - since) / 153
  local year = yoe + (days + 719468 - doe) / 146097 * 400 + (mp < 10 and 0 or 1)
  local month, day = mp < 10 and mp + 3 or mp - 9, (since - since % 5) / 5 + 1
  dates[days] = {string.format('%04d-%02d-%02d', year, month, day), year, month, day}
  return dates[days]
end

-- The window's id, and the millisecond at which it turns (nil: never).
local function calendar(window, now)
  local days = (now - now % DAY_MS) / DAY_MS
  if window == 'month' then
    local id, year, month, day = unpack(date(days))
    local has = (month == 4 or month == 6 or month == 9 or month == 11) and 30 or 31
    if month == 2 then
      has = year % 4 == 0 and (year % 100 ~= 0 or year % 400 == 0) and 29 or 28
    end
    return string.sub(id, 1, -4), (days - day + 1 + has) * DAY_MS
  elseif window == 'day' then
    return date(days)[1], (days + 1) * DAY_MS
  elseif window == 'hour' then
    local hour = (now - now % HOUR_MS) / HOUR_MS
    return date(days)[1] .. string.format('T%02d', hour % 24), (hour + 1) * HOUR_MS
  elseif window == 'week' then
    local monday = days - (days + 3) % 7
    return date(monday)[1], (monday + 7) * DAY_MS
  elseif window == 'total' then
    return 'total', nil
  end
  refuse('unknown window')
end
