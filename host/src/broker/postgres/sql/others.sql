-- How many connections of other nodes hear a channel.
--
-- $1 log, $2 channel, $3 node
SELECT count(*)
FROM fanfare.members m JOIN fanfare.nodes n ON n.log = m.log AND n.node = m.node
WHERE m.log = $1::text AND m.channel = $2::text AND m.node <> $3::text AND n.alive_until > clock_timestamp()
