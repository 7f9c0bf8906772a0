-- trim: take exported entries out of the stream and into the base, in one step.
-- KEYS  meta, base, entries
-- ARGV  digest of the base as it was read or '', its digest hereafter, the first entry, the last one, how many they are,
--       the first id after them, hash of the last one's exported line, (cell, micro-USD hereafter)*
-- Reply DONE | AGAIN

local meta, base, entries = unpack(KEYS)
local known, digest, first, last, count, after, hash = unpack(ARGV)
count = whole(count, 'count')

local function comes_after(one, other)
  local ms, n = string.match(one, '^(%d+)-(%d+)$')
  local other_ms, other_n = string.match(other, '^(%d+)-(%d+)$')
  return tonumber(ms) > tonumber(other_ms) or (ms == other_ms and tonumber(n) > tonumber(other_n))
end

local exported = redis.call('HGET', meta, 'exported')
if (redis.call('HGET', meta, 'base_digest') or '') ~= known or not exported or comes_after(last, exported) then
  return 'AGAIN'
end
local rows = redis.call('XRANGE', entries, '-', last, 'COUNT', count + 1)
if #rows ~= count or rows[1][1] ~= first or rows[count][1] ~= last then
  return 'AGAIN'
end
for i = 8, #ARGV, 2 do
  redis.call('HSET', base, ARGV[i], ARGV[i + 1])
end
redis.call('HSET', meta, 'base_digest', digest, 'trimmed', last, 'trimmed_hash', hash)
redis.call('XTRIM', entries, 'MINID', '=', after)
return 'DONE'
