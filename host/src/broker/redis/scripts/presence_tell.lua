-- Tells of connections of a node that came to hear a channel, or no longer do.
--
-- KEYS[1]  the nodes (presence_renew.lua)
-- KEYS[2]  how many members a channel has: a hash by node
-- KEYS[3]  the members of the channel at this node
-- KEYS[4]  the channels that have members at this node
-- ARGV[1]  the node
-- ARGV[2]  the channel
-- ARGV[3]  how many came
-- ARGV[4…] those who came, then those who left
--
-- Returns 1, or 0 if others have taken the node for dead: then nothing was done.

if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  return 0
end
local came = 3 + ARGV[3]
if came > 3 then
  redis.call('SADD', KEYS[3], unpack(ARGV, 4, came))
end
if #ARGV > came then
  redis.call('SREM', KEYS[3], unpack(ARGV, came + 1))
end
local members = redis.call('SCARD', KEYS[3])
if members > 0 then
  redis.call('HSET', KEYS[2], ARGV[1], members)
  redis.call('SADD', KEYS[4], ARGV[2])
else
  redis.call('HDEL', KEYS[2], ARGV[1])
  redis.call('SREM', KEYS[4], ARGV[2])
end
return 1
