-- restore_base: replace the base by what an export says, and go on numbering entries after it.
-- KEYS  meta, base, entries
-- ARGV  last trimmed entry as it was read or '', its id hereafter, hash of its exported line, last exported entry, hash
--       of its line, digest of the base hereafter or '', last entry that the stream has lost or '', (cell, micro-USD)*
-- Reply DONE | AGAIN

local meta, base, entries = unpack(KEYS)
local was, trimmed, trimmed_hash, exported, exported_hash, digest, lost = unpack(ARGV)
if (redis.call('HGET', meta, 'trimmed') or '') ~= was then
  return 'AGAIN'
end
redis.call('XLEN', entries)
local others = {}
for _, cell in ipairs(redis.call('HKEYS', base)) do
  others[cell] = true
end
for i = 8, #ARGV, 2 do
  redis.call('HSET', base, ARGV[i], ARGV[i + 1])
  others[ARGV[i]] = nil
end
for cell in pairs(others) do -- last: an emptied base is gone, and a slot that moves takes no new one
  redis.call('HDEL', base, cell)
end
redis.call('HSET', meta, 'exported', exported, 'exported_hash', exported_hash, 'base_digest', digest)
if lost ~= '' then -- it is in the base and not in the stream, as what was trimmed is
  redis.call('HSET', meta, 'lost', lost)
end
if trimmed ~= '' then
  redis.call('HSET', meta, 'trimmed', trimmed, 'trimmed_hash', trimmed_hash)
end
local made = redis.pcall('XADD', entries, exported, 'kind', 'none') -- refused if the stream is beyond it already
if type(made) == 'string' then
  redis.call('XDEL', entries, made)
end
return 'DONE'
