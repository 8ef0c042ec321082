-- Reads who hears a channel at other nodes.
--
-- KEYS[1]  the nodes (presence_renew.lua)
-- KEYS[2]  how many members the channel has: a hash by node
-- ARGV[1]  the node that asks
-- ARGV[2]  what the keys of its members begin with; the node follows
-- ARGV[3]  how many members to name at most
--
-- Returns how many there are, and the names.

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local counts = redis.call('HGETALL', KEYS[2])
local total, names = 0, {}
for at = 1, #counts, 2 do
  local node = counts[at]
  if node ~= ARGV[1] and tonumber(redis.call('ZSCORE', KEYS[1], node) or '0') > now then
    total = total + counts[at + 1]
    local room = ARGV[3] - #names
    if room > 0 then
      for _, name in ipairs(redis.call('SRANDMEMBER', ARGV[2] .. node, room)) do
        names[#names + 1] = name
      end
    end
  end
end
return {total, names}
