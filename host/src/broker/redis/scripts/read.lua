-- Reads the events of a channel after a position, oldest first.
--
-- KEYS[1]  the log's hash (attach.lua)
-- KEYS[2]  the stream of the channel (publish.lua)
-- ARGV[1]  the position
-- ARGV[2]  how many events at most
-- ARGV[3]  for how many microseconds events are kept
--
-- Returns the newest position of the log, its epoch, the position up to which events may be missing in front of what
-- was read (0 if none are), the time as a position, the entries, and 1 if there may be more; or nothing where there is no
-- log.

-- Past so many bytes of events no more are returned.
local BYTES = 4 * 1000 * 1000

local log = redis.call('HMGET', KEYS[1], 'last', 'epoch', 'floor')
if not log[1] then
  return false
end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local after = tonumber(ARGV[1])
local oldest = math.max(0, now - tonumber(ARGV[3]))
local start = string.format('%.0f', math.max(after, oldest))
local entries = redis.call('XRANGE', KEYS[2], '(' .. start .. '-0', '+', 'COUNT', ARGV[2])
local more, bytes = #entries == tonumber(ARGV[2]) and 1 or 0, 0
for at, entry in ipairs(entries) do
  bytes = bytes + #(entry[2][4] or '')
  if bytes > BYTES and at < #entries then
    for surplus = #entries, at + 1, -1 do
      entries[surplus] = nil
    end
    more = 1
    break
  end
end
local missing = 0
if entries[1] then
  missing = tonumber(entries[1][2][2]) or 0
elseif redis.call('EXISTS', KEYS[2]) == 0 or start ~= ARGV[1] then
  missing = oldest
end
missing = math.max(missing, tonumber(log[3] or '0'))
if missing <= after then
  missing = 0
end
return {log[1], log[2], string.format('%.0f', missing), string.format('%.0f', now), entries, more}
