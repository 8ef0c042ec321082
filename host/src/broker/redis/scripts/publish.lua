-- Accepts an event: gives it a position, keeps it and tells those who listen, in one step.
--
-- KEYS[1]  the log's hash (attach.lua)
-- KEYS[2]  the list of the channel's newest events, oldest first, each as it is pushed (below)
-- KEYS[3]  only for an event that has an id of its own: a hash of the channels and positions of events with that id
-- ARGV[1]  the Redis channel to tell
-- ARGV[2]  the channel, as a field of KEYS[3]
-- ARGV[3]  the event
-- ARGV[4]  how many events a channel keeps at least
-- ARGV[5]  for how many microseconds it keeps them
-- ARGV[6]  `PUBLISH`, or `SPUBLISH` in a cluster
--
-- What is kept and pushed is `POSITION PREVIOUS EPOCH`, a line feed and the event. PREVIOUS is the position of the event
-- before it on the channel. Where nothing is kept of that, it is a position up to which there may have been some, with
-- `-` in front: those who listen must know themselves whether they heard it.
--
-- Returns the position, 1 if the event was there already, and the epoch; or nothing where there is no log.

-- What is too old is dropped when the age of a channel's events passes another such part of what it may be, and what is
-- too much when it is more by such a part: not each time, because that takes a good part of what all the rest takes.
local STEPS = 8

local log = redis.call('HMGET', KEYS[1], 'last', 'epoch')
local last, epoch = tonumber(log[1]), log[2]
if not last then
  return false
end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local position = math.max(now, last + 1)
local age = tonumber(ARGV[5])
local oldest = math.max(0, position - age)
if KEYS[3] then
  local known = redis.call('HGET', KEYS[3], ARGV[2])
  if known and tonumber(known) > oldest then
    return {known, 1, epoch}
  end
end
local text = string.format('%.0f', position)
redis.call('HSET', KEYS[1], 'last', text)

local newest = redis.call('LINDEX', KEYS[2], -1)
local previous = newest and string.match(newest, '^%d+')
local message = text .. ' ' .. (previous or string.format('-%.0f', oldest)) .. ' ' .. epoch .. '\n' .. ARGV[3]
local kept = redis.call('RPUSH', KEYS[2], message)
-- Only what is kept is known by its id.
if KEYS[3] then
  redis.call('HSET', KEYS[3], ARGV[2], text)
  redis.call('PEXPIRE', KEYS[3], string.format('%.0f', math.ceil(age / 1000)))
end
if kept > ARGV[4] + math.floor(ARGV[4] / STEPS) then
  redis.call('LTRIM', KEYS[2], -ARGV[4], -1)
  kept = tonumber(ARGV[4])
end
local step = age / STEPS
-- Positions that are ahead of the clock do not say how much time has passed.
if not previous or position > now or math.floor(position / step) ~= math.floor(previous / step) then
  -- The last event before this is done again comes one step later at most.
  redis.call('PEXPIRE', KEYS[2], string.format('%.0f', math.ceil((age + step) / 1000)))
  local first, stop = 0, kept - 1
  while first < stop do
    local middle = math.floor((first + stop) / 2)
    local entry = redis.call('LINDEX', KEYS[2], middle)
    if (tonumber(string.match(entry, '^%d+')) or 0) > oldest then
      stop = middle
    else
      first = middle + 1
    end
  end
  if first > 0 then
    redis.call('LTRIM', KEYS[2], first, -1)
  end
end
redis.call(ARGV[6], ARGV[1], message)
return {text, 0, epoch}
