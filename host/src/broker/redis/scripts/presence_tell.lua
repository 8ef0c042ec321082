-- Tells of connections of a node that came to hear a channel, or no longer do.
--
-- KEYS[1]  the nodes (presence_renew.lua)
-- KEYS[2]  how many members a channel has: a hash by node
-- KEYS[3]  the members of the channel at this node
-- KEYS[4]  the channels that have members at this node
-- ARGV[1]  the node
-- ARGV[2]  the channel
-- ARGV[3]  for how many microseconds the node is taken for alive, from now on
-- ARGV[4]  how many came
-- ARGV[5…] those who came, then those who left
--
-- Returns the channel in the first or the second of two lists, if it became occupied or vacated; or 0 if others have
-- taken the node for dead: then nothing was done.

if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  return 0
end

-- Nodes that have died count until they are forgotten: then their members are gone, and that is told.
local before = redis.call('EXISTS', KEYS[2])
local time = redis.call('TIME')
redis.call('ZADD', KEYS[1], string.format('%.0f', time[1] * 1000000 + time[2] + ARGV[3]), ARGV[1])
local came = 4 + ARGV[4]
if came > 4 then
  redis.call('SADD', KEYS[3], unpack(ARGV, 5, came))
end
if #ARGV > came then
  redis.call('SREM', KEYS[3], unpack(ARGV, came + 1))
end
local own = redis.call('SCARD', KEYS[3])
if own > 0 then
  redis.call('HSET', KEYS[2], ARGV[1], own)
  redis.call('SADD', KEYS[4], ARGV[2])
else
  redis.call('HDEL', KEYS[2], ARGV[1])
  redis.call('SREM', KEYS[4], ARGV[2])
end
local after = redis.call('EXISTS', KEYS[2])
return {after > before and {ARGV[2]} or {}, after < before and {ARGV[2]} or {}}
