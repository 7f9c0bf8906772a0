-- Later: what goes together is judged in memory first, and only then written, so that an error leaves all undone.

local writes = {}

-- `write` is called with `made`, which costs far less than a closure of its own.
local function later(write, made)
  local count = #writes
  writes[count + 1], writes[count + 2] = write, made
end

-- First `due` is told, `ZADD` or `ZREM`, of all at once, which fails on a key of another type before anything is written.
local function write_all(balances, due, list, members)
  local changes = changed_cells()
  if #members > 0 then
    redis.call(list, due, unpack(members))
  end
  store_cells(balances, changes) -- the first write of money
  for i = 1, #writes, 2 do
    writes[i](writes[i + 1])
  end
end
