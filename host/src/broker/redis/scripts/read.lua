-- Reads the events of a channel after a position, oldest first.
--
-- KEYS[1]  the log's hash (attach.lua)
-- KEYS[2]  the list of the channel (publish.lua)
-- ARGV[1]  the position
-- ARGV[2]  how many events at most
-- ARGV[3]  for how many microseconds events are kept
--
-- Returns the newest position of the log, the position up to which events may be missing in front of what was read (0 if
-- none are), the time as a position, the events as they were pushed, and 1 if there may be more; or nothing where there
-- is no log.

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
local start = math.max(after, oldest)

-- The first one after that. What others put there has no position, and is where it is.
local kept = redis.call('LLEN', KEYS[2])
local first, stop = 0, kept
while first < stop do
  local middle = math.floor((first + stop) / 2)
  local at, position = middle, nil
  while at < stop and not position do
    position = tonumber(string.match(redis.call('LINDEX', KEYS[2], at), '^(%d+) '))
    at = at + 1
  end
  if position and position <= start then
    first = at
  else
    stop = middle
  end
end

local entries = {}
local more, bytes = 0, 0
if first < kept then
  entries = redis.call('LRANGE', KEYS[2], first, first + ARGV[2] - 1)
  more = first + #entries < kept and 1 or 0
end
for at, entry in ipairs(entries) do
  bytes = bytes + #entry
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
  missing = tonumber(string.match(entries[1], '^%d+ %-?(%d+) ')) or 0
elseif kept == 0 or start > after then
  missing = oldest
end
missing = math.max(missing, tonumber(log[3] or '0'))
if missing <= after then
  missing = 0
end
return {log[1], string.format('%.0f', missing), string.format('%.0f', now), entries, more}
