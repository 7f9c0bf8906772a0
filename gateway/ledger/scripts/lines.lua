-- Lines of a hold: what a rule counts, how much of it, and in which cell of the balance hash.

local BUCKETS = 60

local function bucket_width(seconds)
  return math.ceil(seconds * 1000 / BUCKETS)
end

-- A line as a client sends it: {kind, meter, amount, limit, window or seconds, view}.
local function asked_line(raw, now)
  if type(raw) ~= 'table' or type(raw[2]) ~= 'string' then
    refuse('a line is malformed')
  end
  local line = {kind = raw[1], field = raw[2], amount = whole(raw[3], 'amount'), limit = whole(raw[4], 'limit')}
  if line.kind == 'usd' then
    local id
    id, line.turns = calendar(raw[5], now)
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

-- A line as an attempt keeps it: {kind, field, amount, view or seconds, bucket}.
local function kept_line(raw)
  local line = {kind = raw[1], field = raw[2], amount = whole(raw[3], 'kept amount')}
  if line.kind == 'usd' then
    line.view = raw[4]
  elseif line.kind == 'rolling' then
    line.seconds, line.bucket = whole(raw[4], 'kept seconds'), whole(raw[5], 'kept bucket')
  end
  return line
end

local function keep_line(line)
  local raw = {line.kind, line.field, digits(line.amount)}
  if line.kind == 'usd' then
    raw[4] = line.view
  elseif line.kind == 'rolling' then
    raw[4], raw[5] = digits(line.seconds), digits(line.bucket)
  end
  return raw
end
