-- Taking again what a record has, without asking any limit.

-- A line as an attempt keeps it, JSON.
local function keep_line(line, amount)
  local text = '["' .. line.kind .. '",' .. cjson.encode(line.field) .. ',"' .. digits(amount)
  if line.kind == 'usd' then
    return text .. '","' .. line.view .. '"]'
  elseif line.kind == 'rolling' then
    return text .. '","' .. digits(line.seconds) .. '","' .. digits(line.bucket) .. '"]'
  end
  return text .. '"]'
end

-- A candidate as a record has it, JSON: {worst by view, facts, lines, pressure if any}; its lines as of a moment (ms),
-- its calendar windows as of one of their own.
local function read_record(text, at, of_windows)
  local raw = cjson.decode(text)
  local candidate = {worst = raw[1], facts = raw[2], lines = {}}
  whole_views(candidate.worst, 'worst case')
  for i, line in ipairs(raw[3]) do
    candidate.lines[i] = asked_line(line, line[1] == 'usd' and of_windows or at)
  end
  return candidate
end

-- Takes a candidate's lines in memory; returns the attempt as it is kept, JSON. Two rules may count in one cell (a policy's
-- quota and the route's own limit), which is taken once, at the larger amount.
local function take_lines(candidate, index, at)
  local taken, amounts, kept = {}, {}, {}
  for _, line in ipairs(candidate.lines) do
    local before = amounts[line.field]
    if not before then
      taken[#taken + 1] = line
    end
    amounts[line.field] = math.max(line.amount, before or 0)
  end
  for i, line in ipairs(taken) do
    kept[i] = keep_line(line, amounts[line.field])
    take(cells[line.field], amounts[line.field], line.bucket)
  end
  return '{"index":' .. digits(index) .. ',"at":"' .. at .. '","worst":' .. listed(candidate.worst) .. ',"lines":['
    .. table.concat(kept, ',') .. ']}'
end
