-- Cells of the balance hash, read and checked at once and written at once: reading, then any number of changes in
-- memory, then `changed_cells` and `store_cells`. What is known already is not read again.

local cells = {}

-- The changes as arguments of one HSET, made before anything is written.
local function changed_cells()
  local changes, count = {nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil}, 0 -- room for six
  for field, cell in pairs(cells) do
    if cell.dirty then
      changes[count + 1], changes[count + 2] = field, written(cell)
      count = count + 2
    end
  end
  return changes
end
