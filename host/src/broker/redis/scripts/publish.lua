-- Accepts an event: gives it a position, keeps it and tells those who listen, in one step.
--
-- KEYS[1]  the log's hash (attach.lua)
-- KEYS[2]  the stream of the channel: the id of an entry is its position, `p` the position up to which events before it
--          may have been forgotten or are entries, `e` the event
-- KEYS[3]  only for an event that has an id of its own: a hash of the channels and positions of events with that id
-- ARGV[1]  the Redis channel to tell
-- ARGV[2]  the channel, as a field of KEYS[3]
-- ARGV[3]  the event
-- ARGV[4]  how many events a channel keeps
-- ARGV[5]  for how many microseconds it keeps them
-- ARGV[6]  `PUBLISH`, or `SPUBLISH` in a cluster
--
-- Returns the position, 1 if the event was there already, and the epoch; or nothing where there is no log.

local log = redis.call('HMGET', KEYS[1], 'last', 'epoch')
local last, epoch = tonumber(log[1]), log[2]
if not last then
  return false
end
local time = redis.call('TIME')
local position = math.max(time[1] * 1000000 + time[2], last + 1)
local age = tonumber(ARGV[5])
local oldest = string.format('%.0f', math.max(0, position - age))
local milliseconds = string.format('%.0f', math.ceil(age / 1000))
if KEYS[3] then
  local known = redis.call('HGET', KEYS[3], ARGV[2])
  if known and tonumber(known) > tonumber(oldest) then
    return {known, 1, epoch}
  end
end
position = string.format('%.0f', position)
redis.call('HSET', KEYS[1], 'last', position)
local newest = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
local previous = newest and string.match(newest[1], '%d+')
redis.call('XADD', KEYS[2], 'MAXLEN', ARGV[4], position .. '-0', 'p', previous or oldest, 'e', ARGV[3])
redis.call('XTRIM', KEYS[2], 'MINID', oldest)
redis.call('PEXPIRE', KEYS[2], milliseconds)
if KEYS[3] then
  redis.call('HSET', KEYS[3], ARGV[2], position)
  redis.call('PEXPIRE', KEYS[3], milliseconds)
end
-- Where nothing is kept of what was before, those who listen must know themselves whether they heard it.
redis.call(ARGV[6], ARGV[1], position .. ' ' .. (previous or '-') .. ' ' .. epoch .. '\n' .. ARGV[3])
return {position, 0, epoch}
