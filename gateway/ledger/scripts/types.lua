-- What would be refused, keys of another type and rights that lack, is found before anything is written.

-- The rights to what is written together with money, but for HSET, with which each script begins.
local function require_rights(key)
  for _, words in ipairs({{'XADD', key, '*', 'f', 'v'}, {'ZREM', key, 'm'}, {'ZADD', key, '1', 'm'}, {'EXPIRE', key, '1'},
    {'PERSIST', key}, {'HDEL', key, 'f'}}) do
    if not redis.acl_check_cmd(unpack(words)) then
      error({err = 'NOPERM the store\'s user may not ' .. words[1]}, 0)
    end
  end
end

local function require_all(due, entries, now)
  redis.call('ZCARD', due) -- fails on a key of another type
  date_entries(entries, now)
  require_rights(due)
end
