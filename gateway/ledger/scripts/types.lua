-- Keys of another type are found before anything is written.

local function require_types(due, entries)
  redis.call('ZCARD', due) -- both fail on a key of another type, before anything is written
  redis.call('XLEN', entries)
end
