-- What there is after a position: which events on which channels, without their data, and how far the log goes.
--
-- $1 log, $2 position, $3 the channels, or NULL for all, $4 events at most, $5 up to this position
WITH log AS (
  SELECT epoch, greatest(floor, expired) AS gone, greatest(floor, expired, swept, (
    SELECT max(position) FROM fanfare.events WHERE log = $1::text)) AS last
  FROM fanfare.logs WHERE log = $1::text
)
SELECT log.epoch, log.gone, log.last, event.position, event.channel, event.bytes
FROM log LEFT JOIN LATERAL (
  SELECT position, channel, octet_length(data) AS bytes
  FROM fanfare.events
  WHERE log = $1::text AND position > $2::bigint AND position <= $5::bigint
    AND ($3::text[] IS NULL OR channel = ANY ($3::text[]))
  ORDER BY position LIMIT $4::bigint
) event ON true
ORDER BY event.position
