-- What a hold writes once all that goes together was judged: the earlier one's end, and then itself.

local function write_given_back(made)
  if made.correction then -- it had lapsed to presumed spent
    append(KEYS[5], made.id, made.earlier, made.correction)
  end
  mark(made.request, made.earlier, 'void', made.given_back, '{}', ARGV[4])
  redis.call('ZREM', KEYS[4], made.id .. ':' .. made.earlier.number)
end

local function write_held(made)
  write_attempt(made.request, made.number, made.number, made)
  bind(made.binding, made.id, made.fingerprint, made.claim, ARGV[5])
end
