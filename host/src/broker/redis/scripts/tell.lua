-- Tells a node how far the log goes: what it listens to and has not heard up to there was not pushed to it.
--
-- KEYS[1]  the log's hash (attach.lua)
-- ARGV[1]  the Redis channel of the node
-- ARGV[2]  `PUBLISH`, or `SPUBLISH` in a cluster
--
-- Returns the newest position, or nothing where there is no log.

local last = redis.call('HGET', KEYS[1], 'last')
if last and ARGV[1] ~= '' then
  redis.call(ARGV[2], ARGV[1], last)
end
return last
