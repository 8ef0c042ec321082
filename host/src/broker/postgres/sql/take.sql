-- $1 log, $2 newest position that was seen, $3 first transaction, $4 rows at most, $5 events and $6 microseconds that are kept
SELECT fanfare.take($1::text, $2::bigint, $3::bigint, $4::bigint, $5::bigint, $6::bigint * interval '1 microsecond')
