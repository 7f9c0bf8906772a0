-- Calendar windows, UTC. Days are counted from 1970-01-01; the calendar arithmetic is Howard Hinnant's (chrono dates).

local HOUR_MS, DAY_MS = 3600000, 86400000

local function over(number, by)
  return (number - number % by) / by
end

local function civil_from_days(days)
  local z = days + 719468
  local era = over(z, 146097)
  local doe = z - era * 146097
  local yoe = over(doe - over(doe, 1460) + over(doe, 36524) - over(doe, 146096), 365)
  local doy = doe - (365 * yoe + over(yoe, 4) - over(yoe, 100))
  local mp = over(5 * doy + 2, 153)
  local day = doy - over(153 * mp + 2, 5) + 1
  local month = mp < 10 and mp + 3 or mp - 9
  return yoe + era * 400 + (month <= 2 and 1 or 0), month, day
end

local function days_from_civil(year, month, day)
  local y = month <= 2 and year - 1 or year
  local era = over(y, 400)
  local yoe = y - era * 400
  local doy = over(153 * (month > 2 and month - 3 or month + 9) + 2, 5) + day - 1
  return era * 146097 + yoe * 365 + over(yoe, 4) - over(yoe, 100) + doy - 719468
end

local function date(days)
  return string.format('%04d-%02d-%02d', civil_from_days(days))
end

-- The window's id, and the millisecond at which it turns (nil: never).
local function calendar(window, now)
  local days = over(now, DAY_MS)
  if window == 'hour' then
    local hour = over(now, HOUR_MS)
    return date(days) .. string.format('T%02d', hour % 24), (hour + 1) * HOUR_MS
  elseif window == 'day' then
    return date(days), (days + 1) * DAY_MS
  elseif window == 'week' then
    local monday = days - (days + 3) % 7
    return date(monday), (monday + 7) * DAY_MS
  elseif window == 'month' then
    local year, month = civil_from_days(days)
    local after = month == 12 and days_from_civil(year + 1, 1, 1) or days_from_civil(year, month + 1, 1)
    return string.format('%04d-%02d', year, month), after * DAY_MS
  elseif window == 'total' then
    return 'total', nil
  end
  refuse('unknown window')
end
