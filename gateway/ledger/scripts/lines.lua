-- Lines of a hold: what a rule counts, how much of it, and in which cell of the balance hash.

local BUCKETS = 60

local function bucket_width(seconds)
  return math.ceil(seconds * 1000 / BUCKETS)
end

-- A line as an attempt keeps it: {kind, field, amount, view or seconds, bucket}.
local function kept_line(raw)
  local line = {kind = raw[1], field = raw[2], amount = whole(raw[3], 'kept amount'), view = nil, seconds = nil, bucket = nil}
  if line.kind == 'usd' then
    line.view = raw[4]
  elseif line.kind == 'rolling' then
    line.seconds, line.bucket = whole(raw[4], 'kept seconds'), whole(raw[5], 'kept bucket')
  end
  return line
end

local function keep_line(line)
  if line.kind == 'usd' then
    return {line.kind, line.field, digits(line.amount), line.view}
  elseif line.kind == 'rolling' then
    return {line.kind, line.field, digits(line.amount), digits(line.seconds), digits(line.bucket)}
  end
  return {line.kind, line.field, digits(line.amount)}
end
