-- $1 log, $2 newest position that was seen, $3 events and $4 microseconds that are kept, then the events
SELECT accepted, duplicate, epoch FROM fanfare.publish($1::text, $2::bigint, $3::bigint,
  $4::bigint * interval '1 microsecond', $5::text[], $6::text[], $7::text[], $8::bytea[], $9::boolean[], $10::bigint[])
