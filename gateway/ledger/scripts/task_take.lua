-- task_take: take tasks: those given back, those of silent workers, then new ones in turn over projects.
-- KEYS  turns, looks, returned, ended, counts, what this worker took last
-- ARGV  operation, worker, most, silence ms, whether to look for silent workers (1 or ''), what all names begin with,
--       ms after which a worker that has nothing is forgotten, projects of which nothing new is taken*
-- Reply what is taken: (task id, project, entry, deliveries, its hash)*,
--       and what is not here: (key, the list or queue that names it, its member or entry there)*

local turns, looks, returned, ended, counts, took = unpack(KEYS)
local operation, worker, most, silence, look, prefix, gone = unpack(ARGV)
local keys = {prefix = prefix, queue = prefix .. 'tasks:queue:', now = milliseconds(), worker = worker, turns = turns,
  looks = looks, returned = returned, counts = counts, missing = {},
  off = {[turns] = {}, [looks] = {}, [returned] = {}}, silence = whole(silence, 'silence'), gone = whole(gone, 'gone')}
most = whole(most, 'most', 10000)
local taken, passed = {}, {}
for i = 8, #ARGV do
  passed[ARGV[i]] = true
end

if redis.call('HGET', took, 'operation') == operation then -- a repeat: the answer to the first one was lost
  for _, each in ipairs(cjson.decode(redis.call('HGET', took, 'taken'))) do
    if holds(keys.queue .. each[2], each[3], worker, each[4]) and read_here(keys, each[1]) then
      table.insert(taken, each)
    end
  end
else
  forget(prefix, ended, counts, keys.now, 100)
  take_returned(keys, taken, most)
  if look ~= '' then
    take_silent(keys, taken, most)
  end
  take_new(keys, taken, most, passed)
  take_off(keys)
  if #taken > 0 then
    redis.call('HSET', took, 'operation', operation, 'taken', cjson.encode(taken))
    redis.call('PEXPIRE', took, keys.silence)
  end
end

for _, each in ipairs(taken) do
  each[5] = redis.call('HGETALL', prefix .. 'task:' .. each[1])
end
return {taken, keys.missing}
