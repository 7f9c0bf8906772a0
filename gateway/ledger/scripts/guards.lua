-- Guards: what must hold before anything is written.

local function require_epoch(meta, epoch)
  local known = redis.call('HGET', meta, 'epoch')
  if not known then
    refuse('NOLEDGER the store has no ledger: it was emptied')
  elseif known ~= epoch then
    refuse('EPOCH the store has another ledger than before')
  end
end

local function require_types(due, entries)
  redis.call('ZCARD', due) -- both fail on a key of another type, before anything is written
  redis.call('XLEN', entries)
end
