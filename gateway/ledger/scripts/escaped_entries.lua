-- escaped_entries: a page of the stream with every byte beyond ASCII written as \xNN, for what is no text.
-- KEYS  entries
-- ARGV  start, end, most
-- Reply (id, {field, value, ...})*

local function escaped(text)
  return (string.gsub(text, '[\128-\255]', function(byte)
    return string.format('\\x%02x', string.byte(byte))
  end))
end

local rows = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[2], 'COUNT', whole(ARGV[3], 'most'))
for _, row in ipairs(rows) do
  for i, text in ipairs(row[2]) do
    row[2][i] = escaped(text)
  end
end
return rows
