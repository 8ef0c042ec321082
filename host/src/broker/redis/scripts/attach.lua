-- Makes sure that the log of a publisher exists, and that its positions go on where they were.
--
-- KEYS[1]  the log's hash: `last` is the newest position, `epoch` names the log, `run` names the server process, and
--          `floor` is the position up to which events may have been lost
-- ARGV[1]  the newest position that the caller has seen, 0 for none
-- ARGV[2]  the name of a log that is made now
--
-- Returns the newest position and the epoch. Positions are microseconds of the server's clock, but always greater than
-- the one before: so what is too old is known by its position, and a log that is made anew goes on above the old one.

-- A server that takes over may have a clock that is this much behind, in microseconds.
local SKEW = 10 * 1000000

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local known = tonumber(ARGV[1])
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or ''
local log = redis.call('HMGET', KEYS[1], 'last', 'epoch', 'run')
local last, epoch = tonumber(log[1]), log[2]
if not last then
  last, epoch = math.max(now, known + 1), ARGV[2]
  redis.call('HSET', KEYS[1], 'epoch', epoch, 'floor', string.format('%.0f', last))
elseif known > last then
  -- This server never had, or has lost, what the caller has seen.
  last = math.max(now, known + 1)
  redis.call('HSET', KEYS[1], 'floor', string.format('%.0f', last))
elseif log[3] ~= run then
  last = math.max(now, last + SKEW)
end
last = string.format('%.0f', last)
redis.call('HSET', KEYS[1], 'last', last, 'run', run)
return {last, epoch}
