-- $1 log, $2 newest position that was seen, $3 epoch of a log that is made
SELECT epoch, last FROM fanfare.attach($1::text, $2::bigint, $3::text)
