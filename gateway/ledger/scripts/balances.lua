-- balances: what is used and held now.
-- KEYS  balances
-- ARGV  lines, as for hold
-- Reply (used held reset-ms)*

local now = milliseconds()
local lines = {}
for i, raw in ipairs(cjson.decode(ARGV[1])) do
  lines[i] = asked_line(raw, now)
end
load_cells(KEYS[1], lines, now)
local reply = {}
for _, line in ipairs(lines) do
  local cell = cells[line.field]
  local _, reset = remaining(line, now)
  table.insert(reply, cell.used or cell.spent)
  table.insert(reply, cell.held or 0)
  table.insert(reply, reset)
end
return reply
