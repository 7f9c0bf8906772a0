-- post: book an amount that belongs to no request that is known.
-- KEYS  instances, balances, entries, adjustments
-- ARGV  instance, operation, posting id, nano-USD x3 (may be negative), lines {{field, micro-USD}, ...}, about, reason
-- Reply DONE | SAME

local _, balances, entries, adjustments = unpack(KEYS)
local _, _, posting = unpack(ARGV)
local now = milliseconds()
local cost = {digits(signed(ARGV[4], 'cost')), digits(signed(ARGV[5], 'cost')), digits(signed(ARGV[6], 'cost'))}
local about, reason = ARGV[8], ARGV[9]
date_entries(entries, now)
require_rights(entries)
local done = redis.call('HEXISTS', adjustments, posting) == 1
local lines = {}
for i, raw in ipairs(cjson.decode(ARGV[7])) do
  lines[i] = {kind = 'usd', field = raw[1], amount = 0, difference = signed(raw[2], 'difference')}
end
local before = note(now)

if done then
  return {before, 'SAME'}
end
load_cells(balances, lines, now)
local differences = {}
for i, line in ipairs(lines) do
  correct(line, line.difference)
  differences[i] = digits(line.difference)
end
store_cells(balances, changed_cells())
append(entries, '-', {number = 0, about = about, facts = '{}'}, {kind = 'adjust', source = 'invoice', images = '0',
  outcome = cjson.encode({reason = reason, id = posting}), cost = cost, lines = entry_lines({lines = lines}, differences)})
redis.call('HSET', adjustments, posting, digits(now))
return {before, 'DONE'}
