-- open: the ledger's identity, made once. A later change means that the store was emptied or replaced.
-- KEYS  instances, meta
-- ARGV  instance, operation, epoch for a new ledger or '', schema
-- Reply epoch or '', schema

local MOST = 1000 -- gateways whose watermarks are kept; those that noted nothing for longest are gone

local now = milliseconds()
local noted = redis.call('HGETALL', KEYS[1])
if #noted / 2 > MOST then
  local all = {}
  for i = 1, #noted, 2 do
    table.insert(all, {name = noted[i], at = tonumber(string.match(noted[i + 1], '^%d+ (%d+)$') or '0')})
  end
  table.sort(all, function(one, other) return one.at < other.at end)
  for i = 1, #all - MOST do
    redis.call('HDEL', KEYS[1], all[i].name)
  end
end
local before = note(now)
if ARGV[3] ~= '' then
  redis.call('HSETNX', KEYS[2], 'epoch', ARGV[3])
  redis.call('HSETNX', KEYS[2], 'schema', ARGV[4])
end
local known = redis.call('HMGET', KEYS[2], 'epoch', 'schema')
return {before, {known[1] or '', known[2] or ''}}
