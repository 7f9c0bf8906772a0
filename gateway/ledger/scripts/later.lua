-- Later: what goes together is judged in memory first, and only then written, so that an error leaves all undone.

local writes = {}

-- `write` is called with `made`, which costs far less than a closure of its own.
local function later(write, made)
  local count = #writes
  writes[count + 1], writes[count + 2] = write, made
end

local function write_all(balances)
  store_cells(balances, changed_cells()) -- the first write of money
  for i = 1, #writes, 2 do
    writes[i](writes[i + 1])
  end
end
