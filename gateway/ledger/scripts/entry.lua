-- Entries of the stream: everything that changed what was spent, enough to rebuild every balance.

-- The lines of an entry: {{field, micro-USD}, ...}, from which balances can be rebuilt.
local function entry_lines(attempt, amounts)
  local lines = {}
  for i, line in ipairs(attempt.lines) do
    if line.kind == 'usd' then
      line.quoted = line.quoted or cjson.encode(line.field)
      lines[#lines + 1] = '[' .. line.quoted .. ',"' .. amounts[i] .. '"]'
    end
  end
  return '[' .. table.concat(lines, ',') .. ']'
end

-- `was` is what was booked before, if the entry corrects that: by it entries are known that a store has lost in between.
local function append(key, request, attempt, entry)
  local fields = {'kind', entry.kind, 'request', request, 'attempt', attempt.number,
    'about', attempt.about, 'facts', attempt.facts, 'outcome', entry.outcome, 'source', entry.source,
    'images', entry.images, 'cost', table.concat(entry.cost, ' '), 'lines', entry.lines}
  if entry.was then
    fields[#fields + 1], fields[#fields + 2] = 'was', table.concat(entry.was, ' ')
  end
  if dated then
    fields[#fields + 1], fields[#fields + 2] = 'at', dated
  end
  redis.call('XADD', key, '*', unpack(fields))
  note_dates(key)
end
