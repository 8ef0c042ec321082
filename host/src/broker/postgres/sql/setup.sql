-- What Fanfare keeps in a database, version 1. It may be run again at any time, and needs PostgreSQL 14 or later.
--
-- An application publishes with a plain INSERT into `fanfare.outbox`, in its own transaction if it wants:
--
--     INSERT INTO fanfare.outbox (log, channel, data) VALUES ('app:sync-channel', 'orders', 'hello');
--
-- All else is between the nodes. A function that is changed must serve the nodes that know the one before; where it
-- cannot, the new one gets a name of its own.

DO $$
BEGIN
  -- Whether it may be made is asked even where it is there.
  IF to_regnamespace('fanfare') IS NULL THEN
    CREATE SCHEMA fanfare;
  END IF;
END
$$;

-- The logs. A log is the events of a publisher, in one order. Whoever adds to its events or deletes some has its row
-- locked. The row is seldom changed, because rows that change often are slow while some transaction stays open.
--
-- epoch    names the log in the ids of events; a log that is made anew has another one
-- floor    events up to this position may be lost, because the server went back in time
-- expired  events up to this position have grown too old and are deleted, and none after it is for that reason
-- swept    there are no events up to this position, whatever they were deleted for
CREATE TABLE IF NOT EXISTS fanfare.logs (
  log text COLLATE "C" PRIMARY KEY,
  epoch text NOT NULL,
  floor bigint NOT NULL,
  expired bigint NOT NULL DEFAULT 0,
  swept bigint NOT NULL DEFAULT 0
);

-- The events that are kept.
--
-- previous  the position of the event before it on the channel, or a later one before its own
-- nth       it is the nth event of the channel, as far as they were kept
CREATE TABLE IF NOT EXISTS fanfare.events (
  log text COLLATE "C" NOT NULL,
  position bigint NOT NULL,
  channel text COLLATE "C" NOT NULL,
  previous bigint NOT NULL,
  nth bigint NOT NULL,
  event_id text COLLATE "C",
  event_type text,
  data bytea NOT NULL,
  json boolean NOT NULL,
  retry bigint,
  published_at timestamptz NOT NULL,
  PRIMARY KEY (log, position)
);
CREATE INDEX IF NOT EXISTS events_of_channel ON fanfare.events (log, channel, position);
CREATE UNIQUE INDEX IF NOT EXISTS events_by_id ON fanfare.events (log, event_id, channel) WHERE event_id IS NOT NULL;

-- What others publish, until a node has given it a place among the events. What could be no event is refused here, where
-- whoever inserts it is told. `transaction` and `id` give the order in which rows are taken that are there together.
CREATE TABLE IF NOT EXISTS fanfare.outbox (
  log text COLLATE "C" NOT NULL,
  transaction bigint NOT NULL DEFAULT pg_current_xact_id()::text::bigint,
  id bigint GENERATED ALWAYS AS IDENTITY,
  channel text NOT NULL,
  event_id text,
  event_type text,
  data text NOT NULL,
  json boolean NOT NULL DEFAULT false,
  retry bigint,
  inserted_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (log, transaction, id),
  CONSTRAINT log_has_a_name CHECK (octet_length(log) BETWEEN 1 AND 1000),
  CONSTRAINT channel_has_1_to_255_bytes_without_control_characters
    CHECK (octet_length(channel) BETWEEN 1 AND 255 AND channel !~ '[\u0001-\u001f\u007f-\u009f]'),
  CONSTRAINT event_id_has_1_to_1024_bytes_in_one_line
    CHECK (octet_length(event_id) BETWEEN 1 AND 1024 AND event_id !~ '[\r\n]'),
  CONSTRAINT event_type_has_at_most_1024_bytes_in_one_line
    CHECK (octet_length(event_type) <= 1024 AND event_type !~ '[\r\n]'),
  CONSTRAINT data_is_json_where_it_says_so CHECK (NOT json OR data::json IS NOT NULL),
  CONSTRAINT retry_is_milliseconds_of_32_bits CHECK (retry BETWEEN 0 AND 4294967295)
);

-- Wakes the nodes of the logs that rows were inserted for, once they are committed. Tells them the transaction, so that
-- they need not look for rows of earlier ones, which is slow while some transaction stays open.
--
-- NOTIFY lets transactions commit one after the other. Where that is too slow, this trigger can be disabled: then nodes
-- find the rows within a second.
CREATE OR REPLACE FUNCTION fanfare.wake() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  inserted record;
BEGIN
  FOR inserted IN
    SELECT n.log, l.epoch, min(n.transaction) AS first
    FROM new_rows n LEFT JOIN fanfare.logs l ON l.log = n.log
    GROUP BY n.log, l.epoch
  LOOP
    IF inserted.epoch IS NULL THEN
      RAISE WARNING 'fanfare: no node has started a publisher of the log "%" yet; the rows wait until one does',
        inserted.log;
    ELSE
      PERFORM pg_notify('fanfare_' || inserted.epoch, 'outbox ' || inserted.first);
    END IF;
  END LOOP;
  RETURN NULL;
END
$$;
CREATE OR REPLACE TRIGGER wake AFTER INSERT ON fanfare.outbox
  REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION fanfare.wake();

-- Locks a log, for a node that has seen this position of it, and tells how far it goes. No epoch: there is no such log.
CREATE OR REPLACE FUNCTION fanfare.hold(of_log text, known bigint,
  OUT epoch text, OUT last bigint, OUT floor bigint, OUT expired bigint, OUT swept bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
  SELECT l.epoch, l.floor, l.expired, l.swept INTO epoch, floor, expired, swept
  FROM fanfare.logs l WHERE l.log = of_log FOR UPDATE;
  IF NOT FOUND THEN
    RETURN;
  END IF;
  -- A statement of its own: it sees what was committed while this waited for the lock.
  SELECT max(e.position) INTO last FROM fanfare.events e WHERE e.log = of_log;
  last := greatest(last, floor, expired, swept);
  IF known > last THEN
    -- A standby that took over, or a backup, lacks what the node has seen. What comes now must come after it.
    UPDATE fanfare.logs l SET floor = known + 1 WHERE l.log = of_log;
    floor := known + 1;
    last := floor;
  END IF;
END
$$;

-- Sees that there is a log, and tells its epoch and how far it goes. One that is made has this epoch.
CREATE OR REPLACE FUNCTION fanfare.attach(of_log text, known bigint, fresh text, OUT epoch text, OUT last bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
  IF NOT EXISTS (SELECT FROM fanfare.logs l WHERE l.log = of_log) THEN
    INSERT INTO fanfare.logs (log, epoch, floor) VALUES (of_log, fresh, 0) ON CONFLICT DO NOTHING;
  END IF;
  SELECT h.epoch, h.last INTO epoch, last FROM fanfare.hold(of_log, known) h;
END
$$;

-- Adds an event to a log that is locked, and whose events go up to `last`. Where one with the same id is kept on the
-- channel, tells that one instead.
CREATE OR REPLACE FUNCTION fanfare.append(of_log text, last bigint, gone bigint, moment timestamptz, keep_events bigint,
  keep_age interval, to_channel text, own_id text, of_type text, bytes bytea, is_json boolean, to_retry bigint,
  OUT accepted bigint, OUT duplicate boolean)
LANGUAGE plpgsql AS $$
DECLARE
  same bigint;
  is_fresh boolean;
  newest bigint;
  count bigint;
  lowest bigint;
  highest bigint;
  step bigint := greatest(1, keep_events / 8);
BEGIN
  IF own_id IS NOT NULL THEN
    SELECT e.position, e.published_at > moment - keep_age INTO same, is_fresh
    FROM fanfare.events e WHERE e.log = of_log AND e.event_id = own_id AND e.channel = to_channel;
    IF is_fresh THEN
      accepted := same;
      duplicate := true;
      RETURN;
    END IF;
  END IF;
  SELECT e.position, e.nth INTO newest, count
  FROM fanfare.events e WHERE e.log = of_log AND e.channel = to_channel ORDER BY e.position DESC LIMIT 1;
  IF same IS NOT NULL THEN
    -- It has grown too old.
    DELETE FROM fanfare.events e WHERE e.log = of_log AND e.position = same;
  END IF;
  accepted := last + 1;
  duplicate := false;
  count := coalesce(count, 0) + 1;
  INSERT INTO fanfare.events
    (log, position, channel, previous, nth, event_id, event_type, data, json, retry, published_at)
  VALUES
    (of_log, accepted, to_channel, greatest(newest, gone), count, own_id, of_type, bytes, is_json,
     to_retry, moment);
  -- As many as were added since the last time. Looked for from the newest one: what is deleted is in the way where a
  -- transaction that stays open may still see it.
  IF count % step = 0 THEN
    SELECT min(old.position), max(old.position) INTO lowest, highest
    FROM (
      SELECT e.position FROM fanfare.events e
      WHERE e.log = of_log AND e.channel = to_channel AND e.position > gone
      ORDER BY e.position DESC OFFSET keep_events LIMIT step) old;
    DELETE FROM fanfare.events e
    WHERE e.log = of_log AND e.channel = to_channel AND e.position BETWEEN lowest AND highest;
  END IF;
END
$$;

-- Publishes events, in this order. Returns what became of each, or nothing where there is no such log.
CREATE OR REPLACE FUNCTION fanfare.publish(of_log text, known bigint, keep_events bigint, keep_age interval,
  channels text[], ids text[], types text[], bodies bytea[], jsons boolean[], retries bigint[])
RETURNS TABLE (accepted bigint, duplicate boolean, epoch text)
LANGUAGE plpgsql AS $$
DECLARE
  held record;
  event record;
  moment timestamptz;
  last bigint;
BEGIN
  SELECT * INTO held FROM fanfare.hold(of_log, known);
  IF held.epoch IS NULL THEN
    RETURN;
  END IF;
  moment := clock_timestamp();
  last := held.last;
  epoch := held.epoch;
  FOR event IN
    SELECT * FROM unnest(channels, ids, types, bodies, jsons, retries) WITH ORDINALITY
      AS given (to_channel, own_id, of_type, bytes, is_json, to_retry, number) ORDER BY number
  LOOP
    SELECT a.accepted, a.duplicate INTO accepted, duplicate FROM fanfare.append(of_log, last,
      greatest(held.floor, held.expired), moment, keep_events, keep_age, event.to_channel, event.own_id, event.of_type,
      event.bytes, event.is_json, event.to_retry) a;
    last := greatest(last, accepted);
    RETURN NEXT;
  END LOOP;
  IF last > held.last THEN
    PERFORM pg_notify('fanfare_' || epoch, last::text);
  END IF;
END
$$;

-- Gives places to rows of the outbox that are committed, at most so many, from this transaction on. Returns how many there
-- were. Rows that some other transaction has locked are left for later.
CREATE OR REPLACE FUNCTION fanfare.take(of_log text, known bigint, first bigint, most bigint, keep_events bigint,
  keep_age interval)
RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
  held record;
  event record;
  moment timestamptz;
  last bigint;
  appended record;
  taken bigint := 0;
BEGIN
  IF NOT EXISTS (SELECT FROM fanfare.outbox o WHERE o.log = of_log AND o.transaction >= first) THEN
    RETURN 0;
  END IF;
  SELECT * INTO held FROM fanfare.hold(of_log, known);
  IF held.epoch IS NULL THEN
    RETURN 0;
  END IF;
  moment := clock_timestamp();
  last := held.last;
  FOR event IN
    WITH taken AS (
      DELETE FROM fanfare.outbox o WHERE o.ctid = ANY (ARRAY(
        SELECT free.ctid FROM fanfare.outbox free
        WHERE free.log = of_log AND free.transaction >= first
        ORDER BY free.transaction, free.id LIMIT most FOR UPDATE SKIP LOCKED))
      RETURNING o.*
    )
    SELECT * FROM taken ORDER BY transaction, id
  LOOP
    SELECT * INTO appended FROM fanfare.append(of_log, last, greatest(held.floor, held.expired), moment, keep_events,
      keep_age, event.channel, event.event_id, event.event_type, convert_to(event.data, 'UTF8'), event.json,
      event.retry);
    last := greatest(last, appended.accepted);
    taken := taken + 1;
  END LOOP;
  IF last > held.last THEN
    PERFORM pg_notify('fanfare_' || held.epoch, last::text);
  END IF;
  RETURN taken;
END
$$;

-- Deletes events that have grown too old, oldest first, at most so many. Returns how many there were.
CREATE OR REPLACE FUNCTION fanfare.trim(of_log text, keep_age interval, most bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  held record;
  first record;
  oldest timestamptz := clock_timestamp() - keep_age;
  through bigint;
  found_old bigint;
BEGIN
  SELECT l.swept, e.position, e.published_at INTO first
  FROM fanfare.logs l CROSS JOIN LATERAL (
    SELECT e.position, e.published_at FROM fanfare.events e
    WHERE e.log = of_log AND e.position > l.swept ORDER BY e.position LIMIT 1) e
  WHERE l.log = of_log;
  IF first.position IS NULL OR (first.published_at > oldest AND first.position - first.swept < most) THEN
    RETURN 0;
  END IF;
  SELECT * INTO held FROM fanfare.hold(of_log, 0);
  SELECT max(old.position), count(*) INTO through, found_old
  FROM (
    SELECT e.position, bool_and(e.published_at <= oldest) OVER (ORDER BY e.position) AS is_old
    FROM (
      SELECT e.position, e.published_at FROM fanfare.events e
      WHERE e.log = of_log AND e.position > held.swept ORDER BY e.position LIMIT most) e
  ) old
  WHERE old.is_old;
  IF found_old = 0 THEN
    SELECT min(e.position) - 1 INTO through
    FROM fanfare.events e WHERE e.log = of_log AND e.position > held.swept;
    UPDATE fanfare.logs l SET swept = through WHERE l.log = of_log AND through > l.swept;
  ELSE
    DELETE FROM fanfare.events e WHERE e.log = of_log AND e.position > held.swept AND e.position <= through;
    UPDATE fanfare.logs l SET swept = through, expired = through WHERE l.log = of_log;
  END IF;
  RETURN found_old;
END
$$;

-- The nodes of a log that live, and those that were taken for dead and whose members are still to be forgotten. Nobody
-- misses these two tables: a node that finds itself forgotten tells all anew.
CREATE UNLOGGED TABLE IF NOT EXISTS fanfare.nodes (
  log text COLLATE "C" NOT NULL,
  node text COLLATE "C" NOT NULL,
  alive_until timestamptz NOT NULL,
  is_dead boolean NOT NULL DEFAULT false,
  PRIMARY KEY (log, node)
);

-- The connections that hear channels, at all nodes.
CREATE UNLOGGED TABLE IF NOT EXISTS fanfare.members (
  log text COLLATE "C" NOT NULL,
  channel text COLLATE "C" NOT NULL,
  node text COLLATE "C" NOT NULL,
  connection text COLLATE "C" NOT NULL,
  PRIMARY KEY (log, channel, node, connection)
);
CREATE INDEX IF NOT EXISTS members_of_node ON fanfare.members (log, node);

-- A node says that it lives, and forgets those that have not said so for too long. Returns the channels that are vacated
-- by that; or that others have taken the node for dead meanwhile.
CREATE OR REPLACE FUNCTION fanfare.renew(of_log text, of_node text, lease interval, was_known boolean)
RETURNS TABLE (forgotten boolean, channel text, occupied boolean)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  dead text;
  left_channels text[];
BEGIN
  -- One node of the log at a time, so that just one finds that a channel was the last one to be left.
  PERFORM pg_advisory_xact_lock(722615047, hashtext(of_log));
  IF was_known AND NOT EXISTS (
    SELECT FROM fanfare.nodes n WHERE n.log = of_log AND n.node = of_node AND NOT n.is_dead) THEN
    RETURN QUERY SELECT true, NULL::text, NULL::boolean;
    RETURN;
  END IF;
  INSERT INTO fanfare.nodes AS n (log, node, alive_until) VALUES (of_log, of_node, clock_timestamp() + lease)
    ON CONFLICT (log, node) DO UPDATE SET alive_until = excluded.alive_until;
  UPDATE fanfare.nodes n SET is_dead = true
    WHERE n.log = of_log AND n.alive_until <= clock_timestamp() AND NOT n.is_dead;
  SELECT n.node INTO dead FROM fanfare.nodes n WHERE n.log = of_log AND n.is_dead LIMIT 1;
  IF dead IS NULL THEN
    RETURN;
  END IF;
  -- So many at a time that no other node waits for long.
  WITH gone AS (
    DELETE FROM fanfare.members m WHERE m.ctid = ANY (ARRAY(
      SELECT old.ctid FROM fanfare.members old WHERE old.log = of_log AND old.node = dead LIMIT 5000))
    RETURNING m.channel
  )
  SELECT array_agg(DISTINCT gone.channel) INTO left_channels FROM gone;
  IF NOT EXISTS (SELECT FROM fanfare.members m WHERE m.log = of_log AND m.node = dead) THEN
    DELETE FROM fanfare.nodes n WHERE n.log = of_log AND n.node = dead;
  END IF;
  RETURN QUERY
    SELECT false, of_channel, false FROM unnest(left_channels) of_channel
    WHERE NOT EXISTS (SELECT FROM fanfare.members m WHERE m.log = of_log AND m.channel = of_channel);
END
$$;

-- Tells of connections of a node that came to hear channels, or no longer do. Returns the channels that become occupied
-- or vacated by that; or that others have taken the node for dead: then nothing was done.
CREATE OR REPLACE FUNCTION fanfare.tell(of_log text, of_node text, channels text[], connections text[], joined boolean[])
RETURNS TABLE (forgotten boolean, channel text, occupied boolean)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  before text[];
BEGIN
  PERFORM pg_advisory_xact_lock(722615047, hashtext(of_log));
  IF NOT EXISTS (SELECT FROM fanfare.nodes n WHERE n.log = of_log AND n.node = of_node AND NOT n.is_dead) THEN
    RETURN QUERY SELECT true, NULL::text, NULL::boolean;
    RETURN;
  END IF;
  -- Nodes that have died count until they are forgotten: then their members are gone, and that is told.
  before := ARRAY(SELECT DISTINCT c FROM unnest(channels) c
    WHERE EXISTS (SELECT FROM fanfare.members m WHERE m.log = of_log AND m.channel = c));
  INSERT INTO fanfare.members (log, channel, node, connection)
    SELECT of_log, c.channel, of_node, c.connection
    FROM unnest(channels, connections, joined) AS c (channel, connection, joined) WHERE c.joined
    ON CONFLICT DO NOTHING;
  DELETE FROM fanfare.members m
    USING unnest(channels, connections, joined) AS c (channel, connection, joined)
    WHERE NOT c.joined AND m.log = of_log AND m.channel = c.channel AND m.node = of_node
      AND m.connection = c.connection;
  RETURN QUERY
    SELECT false, known.of_channel, known.is_occupied
    FROM (
      SELECT c AS of_channel, c = ANY (before) AS was_occupied,
        EXISTS (SELECT FROM fanfare.members m WHERE m.log = of_log AND m.channel = c) AS is_occupied
      FROM (SELECT DISTINCT c FROM unnest(channels) c) given
    ) known
    WHERE known.was_occupied <> known.is_occupied;
END
$$;

CREATE OR REPLACE FUNCTION fanfare.version() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 1';
