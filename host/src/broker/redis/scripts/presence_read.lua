-- Reads who hears a channel at other nodes.
--
-- KEYS[1]  the nodes (presence_renew.lua)
-- KEYS[2]  how many members the channel has: a hash by node
-- ARGV[1]  what the keys of its members begin with; the node follows
-- ARGV[2]  how many members to name at most
-- ARGV[3…] the node that asks, and what it was called before
--
-- Returns how many there are, and the names.

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local counts = redis.call('HGETALL', KEYS[2])
local total, names = 0, {}
local own = {}
for at = 3, #ARGV do
  own[ARGV[at]] = true
end
for at = 1, #counts, 2 do
  local node = counts[at]
  if not own[node] and tonumber(redis.call('ZSCORE', KEYS[1], node) or '0') > now then
    total = total + counts[at + 1]
    local room = ARGV[2] - #names
    if room > 0 then
      for _, name in ipairs(redis.call('SRANDMEMBER', ARGV[1] .. node, room)) do
        names[#names + 1] = name
      end
    end
  end
end
return {total, names}
