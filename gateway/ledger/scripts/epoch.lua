-- The ledger's identity: what was held in one is not held in another.

local function require_epoch(meta, epoch)
  local known = redis.call('HGET', meta, 'epoch')
  if not known then
    refuse('NOLEDGER the store has no ledger: it was emptied')
  elseif known ~= epoch then
    refuse('EPOCH the store has another ledger than before')
  end
end
