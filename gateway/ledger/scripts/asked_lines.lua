-- Lines as they are asked for, all at one moment.

local windows = {} -- many lines have the same one

local function asked_window(window, now)
  local known = windows[window or '']
  if not known then
    known = {calendar(window, now)}
    windows[window] = known
  end
  return known[1], known[2]
end

-- A line as a client sends it: {kind, meter, amount, limit, window or seconds, view}.
local function asked_line(raw, now)
  if type(raw) ~= 'table' or type(raw[2]) ~= 'string' then
    refuse('a line is malformed')
  end
  local line = {kind = raw[1], field = raw[2], amount = whole(raw[3], 'amount'), limit = whole(raw[4], 'limit'),
    view = nil, turns = nil, seconds = nil, bucket = nil} -- all its fields, so that it never grows
  if line.kind == 'usd' then
    local id
    id, line.turns = asked_window(raw[5], now)
    line.field, line.view = raw[2] .. '@' .. id, raw[6]
    if line.view ~= 'official' and line.view ~= 'route' and line.view ~= 'internal' then
      refuse('unknown view')
    end
  elseif line.kind == 'rolling' then
    line.seconds = whole(raw[5], 'seconds', 31536000)
    if line.seconds == 0 then
      refuse('seconds is zero')
    end
    line.bucket = math.floor(now / bucket_width(line.seconds))
  elseif line.kind ~= 'live' then
    refuse('unknown kind of line')
  end
  return line
end
