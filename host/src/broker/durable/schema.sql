-- Version 1 of the events file. An index of a table ends in its INTEGER PRIMARY KEY by itself.

-- One row.
CREATE TABLE log (
  number INTEGER PRIMARY KEY CHECK (number = 1),
  -- What the log is called in the ids of events.
  epoch TEXT NOT NULL,
  -- The newest position that was given out.
  last INTEGER NOT NULL,
  -- The newest position of an event that was deleted because it was too old.
  forgotten INTEGER NOT NULL,
  -- Events up to this position may be lost, on whatever channel.
  lost INTEGER NOT NULL,
  -- The run of the machine in which events were kept that may not be on the disk yet; NULL where all are.
  boot TEXT
) STRICT;

-- Those of which events are kept.
CREATE TABLE channels (
  number INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  -- How many there are.
  events INTEGER NOT NULL,
  -- The position of the newest one.
  newest INTEGER NOT NULL
) STRICT;

CREATE TABLE events (
  position INTEGER PRIMARY KEY,
  channel INTEGER NOT NULL,
  -- The position of the event before it on the channel; where there was none, one up to which there may have been some.
  previous INTEGER NOT NULL,
  -- The id that it came with.
  id TEXT,
  payload BLOB NOT NULL
) STRICT;

CREATE INDEX events_by_channel ON events (channel);
CREATE INDEX events_by_id ON events (id, channel) WHERE id IS NOT NULL;
