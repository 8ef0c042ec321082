//! Reading the file, while others write to it.

use std::{sync::Arc, time::Duration};

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    super::{Page, ids, payload},
    listeners::Listeners,
    log::{get, integer, now, oldest, position_on},
};
use crate::hub::{carried::Placed, channel::ChannelName};

/// Bytes of events after which a page ends.
const BYTES: usize = 8 << 20;

/// A connection that reads.
pub(super) struct Reader {
    connection: Connection,
    /// How long events are kept.
    age: Duration,
    epoch: String,
    /// Whoever is told of what was read here may ask how far all is.
    listeners: Arc<Listeners>,
}

/// An event as it is kept.
struct Entry {
    position: u64,
    previous: u64,
    payload: Vec<u8>,
}

impl Reader {
    pub(super) fn new(
        connection: Connection,
        age: Duration,
        epoch: String,
        listeners: Arc<Listeners>,
    ) -> Self {
        Self {
            connection,
            age,
            epoch,
            listeners,
        }
    }

    /// Reads events of a channel after a position.
    pub(super) fn read(
        &mut self,
        channel: &ChannelName,
        after: u64,
        limit: usize,
        event_data: usize,
    ) -> rusqlite::Result<Page> {
        // All that is read in it is of one moment.
        let moment = self.connection.transaction()?;
        let (last, forgotten, lost) = moment
            .prepare_cached("SELECT last, forgotten, lost FROM log")?
            .query_row([], |row| Ok((get(row, 0)?, get(row, 1)?, get(row, 2)?)))?;
        let known = moment
            .prepare_cached("SELECT number, newest FROM channels WHERE name = ?")?
            .query_row([channel.as_str()], |row| {
                Ok((row.get::<_, i64>(0)?, get(row, 1)?))
            });
        let now = now().max(last);
        let (entries, more, missing) = match known.optional()? {
            None => (Vec::new(), false, forgotten),
            Some((number, newest)) => {
                let start = after.max(oldest(now, self.age));
                let (entries, more) = entries(&moment, number, start, limit)?;
                let missing = entries.first().map_or(newest, |entry| entry.previous);
                (entries, more, missing)
            }
        };
        drop(moment);
        self.listeners.saw(last);
        let mut missing = missing.max(lost);
        let newest = entries.last().map_or(last, |entry| entry.position);
        let mut events = Vec::with_capacity(entries.len());
        for entry in entries {
            let position = entry.position;
            match self.placed(channel, entry, now, event_data) {
                Some(placed) => events.push(placed),
                None => missing = missing.max(position),
            }
        }
        Ok(Page {
            events,
            missing: if missing > after { missing } else { 0 },
            through: if more { newest } else { last },
            more,
        })
    }

    /// The position of an id that came with an event.
    pub(super) fn place(
        &mut self,
        channel: &ChannelName,
        id: &str,
    ) -> rusqlite::Result<Option<u64>> {
        let moment = self.connection.transaction()?;
        let last = moment
            .prepare_cached("SELECT last FROM log")?
            .query_row([], |row| get(row, 0))?;
        self.listeners.saw(last);
        let oldest = oldest(now().max(last), self.age);
        let number: Option<i64> = moment
            .prepare_cached("SELECT number FROM channels WHERE name = ?")?
            .query_row([channel.as_str()], |row| row.get(0))
            .optional()?;
        if let Some(number) = number
            && let Some(position) = position_on(&moment, number, id, oldest)?
        {
            return Ok(Some(position));
        }
        let mut select = moment.prepare_cached(
            "SELECT position FROM events INDEXED BY events_by_id \
             WHERE id = ? AND position > ? LIMIT 2",
        )?;
        let positions = select.query_map(params![id, integer(oldest)], |row| get(row, 0))?;
        let positions: Vec<u64> = positions.collect::<rusqlite::Result<_>>()?;
        // On several channels it is a place on its own channels only.
        Ok(match positions.as_slice() {
            [only] => Some(*only),
            _ => None,
        })
    }

    /// An event as it is delivered; `None` where it cannot be read, which is logged.
    fn placed(
        &self,
        channel: &ChannelName,
        entry: Entry,
        now: u64,
        event_data: usize,
    ) -> Option<Placed> {
        let position = entry.position;
        let id = || ids::id_of(&self.epoch, position);
        match payload::decode(&entry.payload, id, event_data) {
            Ok((event, own_id)) => Some(Placed {
                position,
                event,
                own_id,
                age: Duration::from_micros(now.saturating_sub(position)),
            }),
            Err(error) => {
                tracing::warn!(
                    channel = channel.as_str(),
                    position,
                    %error,
                    "an event that is kept in the events file cannot be read; clients are told of a gap"
                );
                None
            }
        }
    }
}

/// Events of a channel after a position, and whether there are more.
fn entries(
    connection: &Connection,
    channel: i64,
    after: u64,
    limit: usize,
) -> rusqlite::Result<(Vec<Entry>, bool)> {
    let mut select = connection.prepare_cached(
        "SELECT position, previous, payload FROM events INDEXED BY events_by_channel \
         WHERE channel = ? AND position > ? ORDER BY position",
    )?;
    let mut rows = select.query(params![channel, integer(after)])?;
    let (mut entries, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        if entries.len() == limit || bytes > BYTES {
            return Ok((entries, true));
        }
        let payload: Vec<u8> = row.get(2)?;
        bytes += payload.len();
        entries.push(Entry {
            position: get(row, 0)?,
            previous: get(row, 1)?,
            payload,
        });
    }
    Ok((entries, false))
}
