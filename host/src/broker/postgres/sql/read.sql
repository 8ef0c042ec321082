-- Events of a channel after a position, oldest first, and how far the log goes. One row without an event if there is none.
--
-- gone    events up to this position may be deleted or lost, whatever their channel
-- newest  the newest event of the channel, which may have grown too old
-- found   how many events there are, of which those are left out that are too much together
--
-- $1 log, $2 channel, $3 position, $4 events at most, $5 microseconds that events are kept, $6 bytes at most, $7 the
-- largest data, in bytes: larger data is NULL
WITH log AS (
  SELECT epoch, floor, greatest(floor, expired) AS gone, greatest(floor, expired, swept, (
    SELECT max(position) FROM fanfare.events WHERE log = $1::text)) AS last
  FROM fanfare.logs WHERE log = $1::text
), found AS (
  SELECT event.*, least(octet_length(event.data), $7::bigint) AS bytes
  FROM log CROSS JOIN LATERAL (
    SELECT * FROM fanfare.events e
    WHERE e.log = $1::text AND e.channel = $2::text AND e.position > greatest($3::bigint, log.floor)
      AND e.published_at > clock_timestamp() - $5::bigint * interval '1 microsecond'
    ORDER BY e.position LIMIT $4::bigint
  ) event
), event AS (
  SELECT *, sum(bytes) OVER (ORDER BY position) - bytes AS before, count(*) OVER () AS found FROM found
)
SELECT log.epoch, log.gone, log.last,
  (SELECT max(e.position) FROM fanfare.events e WHERE e.log = $1::text AND e.channel = $2::text) AS newest,
  event.position, event.previous, event.event_id, event.event_type,
  CASE WHEN octet_length(event.data) <= $7::bigint THEN event.data END AS data, event.json, event.retry,
  (extract(epoch FROM clock_timestamp() - event.published_at) * 1000000)::bigint AS age, event.found
FROM log LEFT JOIN event ON event.before < $6::bigint
ORDER BY event.position
