-- A node says that it lives, and forgets those that have not said so for too long.
--
-- KEYS[1]  the nodes: a sorted set by the time, in microseconds, up to which each is taken for alive
-- KEYS[2]  the nodes that were taken for dead, and whose members are still to be forgotten
-- ARGV[1]  the node
-- ARGV[2]  for how many microseconds it is taken for alive
-- ARGV[3]  1 if it said so before
-- ARGV[4]  what the keys of the log begin with
-- ARGV[5…] what the node was called before: these are dead
--
-- Returns an empty list and the channels that were vacated by that; or 0 if others have taken the node for dead
-- meanwhile.

-- How much is forgotten at a time, so that no other command waits for long.
local NODES, CHANNELS = 10, 2000

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
if ARGV[3] == '1' and not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  return 0
end
redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[2]), ARGV[1])
for _, node in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now), 'LIMIT', 0, NODES)) do
  redis.call('ZREM', KEYS[1], node)
  redis.call('SADD', KEYS[2], node)
end
for at = 5, #ARGV do
  if redis.call('ZREM', KEYS[1], ARGV[at]) == 1 then
    redis.call('SADD', KEYS[2], ARGV[at])
  end
end
local vacated = {}
local dead = redis.call('SRANDMEMBER', KEYS[2])
if dead then
  local channels = ARGV[4] .. ':o:' .. dead
  for _, channel in ipairs(redis.call('SPOP', channels, CHANNELS)) do
    redis.call('DEL', ARGV[4] .. ':m:' .. channel .. ':' .. dead)
    redis.call('HDEL', ARGV[4] .. ':c:' .. channel, dead)
    -- Nodes that died at the same time are still counted, and whoever forgets the last of them is told.
    if redis.call('EXISTS', ARGV[4] .. ':c:' .. channel) == 0 then
      vacated[#vacated + 1] = channel
    end
  end
  if redis.call('EXISTS', channels) == 0 then
    redis.call('SREM', KEYS[2], dead)
  end
end
return {{}, vacated}
