-- Makes sure that the log of a publisher exists, and that its positions go on where they were.
--
-- KEYS[1]  the log's hash: `last` is the newest position, `epoch` names the log, `run` names the server process, and
--          `floor` is the position up to which events may have been lost. Between `cut` and `begun`, the newest positions
--          before this process and the oldest of it, no event was accepted here
-- ARGV[1]  the newest position that the caller has seen, 0 for none
-- ARGV[2]  the name of a log that is made now
-- ARGV[3]  the Redis channel of all nodes, which are told of what was lost
-- ARGV[4]  `PUBLISH`, or `SPUBLISH` in a cluster
--
-- Returns the newest position and the epoch. Positions are microseconds of the server's clock, but always greater than
-- the one before: so what is too old is known by its position, and a log that is made anew goes on above the old one.

-- A server that takes over may have a clock that is this much behind, in microseconds.
local SKEW = 10 * 1000000

local function text(number)
  return string.format('%.0f', number)
end

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local known = tonumber(ARGV[1])
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or ''
local log = redis.call('HMGET', KEYS[1], 'last', 'epoch', 'run', 'cut', 'begun', 'floor')
local last, epoch, cut, begun = tonumber(log[1]), log[2], tonumber(log[4]), tonumber(log[5])
local floor = tonumber(log[6]) or 0
local lost
if not last or not epoch then
  last, epoch = math.max(now, known + 1), ARGV[2]
  lost, cut, begun = last, last, last
elseif log[3] ~= run then
  cut, last = last, math.max(now, last + SKEW, known + 1)
  begun = last
end
-- What the caller has seen was accepted by a server that had more than this one has now, whoever was here before it.
if cut and known > cut and known <= begun then
  lost = begun
elseif known > last then
  last = math.max(now, known + 1)
  lost = last
end
if lost and lost > floor then
  redis.call('HSET', KEYS[1], 'floor', text(lost))
  redis.call(ARGV[4], ARGV[3], text(lost))
end
redis.call('HSET', KEYS[1], 'last', text(last), 'epoch', epoch, 'run', run, 'cut', text(cut or 0), 'begun', text(begun or 0))
return {text(last), epoch}
