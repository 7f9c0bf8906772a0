-- Dates of entries. An id tells when its entry was booked, but ids never go back: where the store's clock was ahead, later
-- entries have ids from then, and say `at` which moment (ms) they were booked. `meta` knows the last one that does.

local AHEAD = 1000 -- ms; less is no matter
local dated = nil

-- Asked before anything is written, for it fails on a key of another type. Where nothing is there to be read, as always
-- but then, it costs no more than to ask for the length.
local function date_entries(entries, now)
  dated = redis.call('XREAD', 'COUNT', 1, 'STREAMS', entries, digits(now + AHEAD)) and digits(now) or nil
end

local function note_dates(entries)
  if dated then
    local meta = string.gsub(entries, 'entries$', 'meta')
    redis.call('HSET', meta, 'ahead', redis.call('XREVRANGE', entries, '+', '-', 'COUNT', 1)[1][1])
  end
end
