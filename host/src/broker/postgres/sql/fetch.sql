-- Events by their positions, in order.
--
-- $1 log, $2 positions, $3 the first and $4 the last of them, $5 the largest data, in bytes: larger data is NULL
SELECT position, channel, previous, event_id, event_type, CASE WHEN octet_length(data) <= $5::bigint THEN data END AS data,
  json, retry, (extract(epoch FROM clock_timestamp() - published_at) * 1000000)::bigint AS age
FROM fanfare.events
WHERE log = $1::text AND position BETWEEN $3::bigint AND $4::bigint AND position = ANY ($2::bigint[])
ORDER BY position
