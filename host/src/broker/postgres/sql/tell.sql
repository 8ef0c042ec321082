-- $1 log, $2 node, then channels, connections, and whether each joined
SELECT forgotten, channel, occupied FROM fanfare.tell($1::text, $2::text, $3::text[], $4::text[], $5::boolean[])
