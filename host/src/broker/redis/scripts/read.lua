-- Reads the events of a channel after a position, oldest first.
--
-- KEYS[1]  the log's hash (attach.lua)
-- KEYS[2]  the stream of the channel (publish.lua)
-- ARGV[1]  the position
-- ARGV[2]  how many events at most
-- ARGV[3]  for how many microseconds events are kept
--
-- Returns the newest position of the log, its epoch, the position up to which events may be missing in front of what
-- was read (0 if none are), the time as a position, and the entries; or nothing where there is no log.

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
local missing = 0
if entries[1] then
  missing = tonumber(entries[1][2][2])
elseif redis.call('EXISTS', KEYS[2]) == 0 or start ~= ARGV[1] then
  missing = oldest
end
missing = math.max(missing, tonumber(log[3] or '0'))
if missing <= after then
  missing = 0
end
return {log[1], log[2], string.format('%.0f', missing), string.format('%.0f', now), entries}
