-- Terms: how something is to be held, in one text of eight with commas in between: state, lease ms, highest attempt that the
-- gateway knows of, attempt to release or "", 1 if its binding is claimed alone, its fingerprint or "", 1 to release only if
-- something is held, request to take the binding over from or "". Nearly all holds have the same.

local terms_by_text = {}

local function read_terms(text, now)
  local state, lease, newest, release, claim, fingerprint, only_if_held, former =
    string.match(text, '^([^,]*),([^,]*),([^,]*),([^,]*),([^,]*),([^,]*),([^,]*),([^,]*)$')
  if state ~= 'sent' and state ~= 'queued' then
    refuse('unknown state')
  end
  local terms = {state = state, lapses = digits(now + whole(lease, 'lease')), newest = whole(newest, 'newest'),
    release = release ~= '' and release or nil, claim = claim, fingerprint = fingerprint ~= '' and fingerprint or nil,
    only_if_held = only_if_held ~= '', former = former}
  terms_by_text[text] = terms
  return terms
end
