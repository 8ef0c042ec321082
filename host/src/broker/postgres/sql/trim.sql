-- $1 log, $2 microseconds that events are kept, $3 events at most
SELECT fanfare.trim($1::text, $2::bigint * interval '1 microsecond', $3::bigint)
