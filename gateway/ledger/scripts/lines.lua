-- Lines of a hold: what a rule counts, how much of it, and in which cell of the balance hash.

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

-- A list of texts that need no escapes, as JSON.
local function listed(texts)
  return #texts > 0 and '["' .. table.concat(texts, '","') .. '"]' or '[]'
end
