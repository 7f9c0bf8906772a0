-- Taking a candidate: all its lines in memory, and the attempt as it is kept.

-- A line as an attempt keeps it, JSON, put together from texts: making and encoding a table takes longer.
local function keep_line(line, amount)
  local text = '["' .. line.kind .. '",' .. cjson.encode(line.field) .. ',"' .. digits(amount)
  if line.kind == 'usd' then
    return text .. '","' .. line.view .. '"]'
  elseif line.kind == 'rolling' then
    return text .. '","' .. digits(line.seconds) .. '","' .. digits(line.bucket) .. '"]'
  end
  return text .. '"]'
end

-- What taking a candidate takes: two rules may count in one cell (a policy's quota and the route's own limit), which is
-- taken once, at the larger amount. And as the attempt keeps it.
local function plan_lines(candidate)
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
  end
  candidate.taken, candidate.amounts = taken, amounts
  candidate.kept = '"worst":' .. listed(candidate.worst) .. ',"lines":[' .. table.concat(kept, ',') .. ']'
end

-- Takes a candidate's lines in memory; returns the attempt as it is kept, JSON. `swapped` is JSON too, if there is any.
local function take_lines(candidate, index, at, swapped)
  if not candidate.kept then
    plan_lines(candidate)
  end
  for _, line in ipairs(candidate.taken) do
    take(line, candidate.amounts[line.field])
  end
  return '{"index":' .. digits(index) .. ',"at":"' .. at .. '",' .. candidate.kept
    .. (swapped and ',"swapped":' .. swapped or '') .. '}'
end
