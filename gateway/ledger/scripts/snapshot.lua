-- snapshot: all that an audit compares, as it was at one moment. What live holds took is read afterwards: that part of
-- their records never changes.
-- KEYS  meta, balances, base, due, entries
-- Reply now in ms, meta values (epoch, exported, exported_hash, trimmed, trimmed_hash, base_digest), how many
--       entries, the last one's id or '', the newest deleted one's id or '', balances, base, members of due

local meta, balances, base, due, entries = unpack(KEYS)
local last, deleted = redis.call('XREVRANGE', entries, '+', '-', 'COUNT', 1)[1], ''
if last then
  local known = redis.pcall('XINFO', 'STREAM', entries)
  for i = 1, #known - 1, 2 do -- older servers do not tell
    if known[i] == 'max-deleted-entry-id' then
      deleted = known[i + 1]
    end
  end
end
return {
  digits(milliseconds()),
  redis.call('HMGET', meta, 'epoch', 'exported', 'exported_hash', 'trimmed', 'trimmed_hash', 'base_digest'),
  redis.call('XLEN', entries), last and last[1] or '', deleted,
  redis.call('HGETALL', balances), redis.call('HGETALL', base), redis.call('ZRANGE', due, 0, -1),
}
