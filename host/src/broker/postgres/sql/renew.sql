-- $1 log, $2 node, $3 for how many microseconds it is taken for alive, $4 whether it said so before
SELECT forgotten, channel, occupied
FROM fanfare.renew($1::text, $2::text, $3::bigint * interval '1 microsecond', $4::boolean)
