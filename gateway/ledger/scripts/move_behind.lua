-- move_behind: take entries out of the stream and write them again, in their order, behind what an export ends with.
-- KEYS  meta, entries
-- ARGV  last exported entry, ids*
-- Reply DONE

local meta, entries = unpack(KEYS)
if not redis.acl_check_cmd('XDEL', entries, '0-1') or not redis.acl_check_cmd('HSET', meta, 'f', 'v') then
  error({err = 'NOPERM the store\'s user may not XDEL and HSET'}, 0) -- one entry would be there twice
end
local made = redis.pcall('XADD', entries, ARGV[1], 'kind', 'none') -- refused if the stream is beyond it already
if type(made) == 'string' then
  redis.call('XDEL', entries, made)
end
for i = 2, #ARGV do
  local row = redis.call('XRANGE', entries, ARGV[i], ARGV[i])[1]
  if row then
    local fields, dated = row[2], false
    for at = 1, #fields, 2 do
      dated = dated or fields[at] == 'at'
    end
    if not dated then -- its id tells another moment from now on
      fields[#fields + 1], fields[#fields + 2] = 'at', string.match(ARGV[i], '^%d+')
    end
    redis.call('HSET', meta, 'ahead', redis.call('XADD', entries, '*', unpack(fields)))
    redis.call('XDEL', entries, ARGV[i])
  end
end
return 'DONE'
