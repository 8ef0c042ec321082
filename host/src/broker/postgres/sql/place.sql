-- The position of an id on a channel, or else on the only other one that has it.
--
-- $1 log, $2 channel, $3 id
SELECT coalesce(
  (SELECT position FROM fanfare.events WHERE log = $1::text AND event_id = $3::text AND channel = $2::text),
  (SELECT min(position) FROM (
    SELECT position FROM fanfare.events WHERE log = $1::text AND event_id = $3::text LIMIT 2) others
   HAVING count(*) = 1))
