//! What is kept on the server: a log for each publisher, as rows of the tables of setup.sql.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio_postgres::{Row, types::FromSql};

use super::{
    super::{Accepted, Page, Pushed, Retention, ids},
    columns::Columns,
    failure::Failure,
    session::{Session, is_epoch},
};
use crate::{
    event::{Data, Event},
    hub::{carried::Placed, channel::ChannelName},
};

/// Rows of the outbox that are given places at a time, and events that are deleted at a time, so that nobody waits long
/// for the lock of the log.
pub(super) const BATCH: usize = 1000;
/// The longest time that events are kept: a hundred years. More would be out of the range of the server's intervals.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// Bytes of a page. An event that is larger is a page of its own.
const PAGE_BYTES: i64 = 4 << 20;

/// A log on a server.
#[derive(Debug)]
pub(super) struct Log {
    name: String,
    /// What error messages call the server.
    address: String,
    keep_events: i64,
    /// In microseconds.
    keep_age: i64,
    /// The largest data of an event, in bytes.
    event_data: usize,
    /// The newest position that was seen of it.
    newest: AtomicU64,
    /// What it is called in the ids of events, since it was first attached to.
    epoch: Mutex<Option<String>>,
}

/// What there is after a position.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) epoch: String,
    /// Events up to this position may be deleted or lost, whatever their channel.
    pub(super) gone: u64,
    /// The newest position.
    pub(super) last: u64,
    /// In order.
    pub(super) events: Vec<Found>,
}

/// An event that there is.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) position: u64,
    pub(super) channel: String,
    /// Of its data.
    pub(super) bytes: usize,
}

impl Log {
    pub(super) fn new(
        name: String,
        address: String,
        retention: Retention,
        event_data: usize,
    ) -> Self {
        let age = retention.age.min(LONGEST).as_micros();
        Self {
            name,
            address,
            keep_events: i64::try_from(retention.events.max(1)).unwrap_or(i64::MAX),
            keep_age: i64::try_from(age).unwrap_or(i64::MAX),
            event_data,
            newest: AtomicU64::new(0),
            epoch: Mutex::default(),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Sees that there is a log, and that what is accepted from now on comes after all that was seen of it. Returns its
    /// epoch and the newest position.
    pub(super) async fn attach(&self, session: &Session) -> Result<(String, u64), Failure> {
        let fresh = format!("r{:09x}", rand::random::<u64>() >> 28);
        let statement = &session.statements.attach;
        let rows = session
            .ask("attaching", statement, &[&self.name, &self.known(), &fresh])
            .await?;
        let row = rows.first().ok_or_else(|| self.odd("attaching"))?;
        let (epoch, last): (String, _) = (self.get(row, 0)?, self.position(row, 1)?);
        if !is_epoch(&epoch) {
            return Err(self.odd("attaching"));
        }
        self.saw(last);
        *self.epoch.lock() = Some(epoch.clone());
        Ok((epoch, last))
    }

    /// Accepts events, in this order. `None` where there is no such log any more.
    pub(super) async fn publish(
        &self,
        session: &Session,
        events: &[(&ChannelName, &Event)],
    ) -> Result<Option<Vec<Accepted>>, Failure> {
        let each = || events.iter().map(|(_, event)| *event);
        let channels: Vec<_> = events.iter().map(|(channel, _)| channel.as_str()).collect();
        let ids: Vec<_> = each().map(Event::id).collect();
        let types: Vec<_> = each().map(Event::event_type).collect();
        let (mut bodies, mut jsons) = (Vec::new(), Vec::new());
        for event in each() {
            let (text, json) = match event.data() {
                Data::Text(text) => (text, false),
                Data::Json(text) => (text, true),
            };
            bodies.push(text.as_bytes());
            jsons.push(json);
        }
        let retries: Vec<_> = each().map(|event| event.retry().map(i64::from)).collect();
        let statement = &session.statements.publish;
        let rows = session
            .ask(
                "publishing",
                statement,
                &[
                    &self.name,
                    &self.known(),
                    &self.keep_events,
                    &self.keep_age,
                    &channels,
                    &ids,
                    &types,
                    &bodies,
                    &jsons,
                    &retries,
                ],
            )
            .await?;
        if rows.is_empty() {
            return Ok(None);
        }
        if rows.len() != events.len() {
            return Err(self.odd("publishing"));
        }
        let accepted = rows.iter().zip(each()).map(|(row, event)| {
            let position = self.position(row, 0)?;
            self.saw(position);
            Ok(Accepted {
                id: match event.id() {
                    Some(id) => id.to_owned(),
                    None => ids::id_of(self.get(row, 2)?, position),
                },
                position,
                duplicate: self.get(row, 1)?,
            })
        });
        accepted.collect::<Result<_, _>>().map(Some)
    }

    /// Gives places to at most [`BATCH`] rows of the outbox, from this transaction on. Returns how many there were.
    pub(super) async fn take(&self, session: &Session, first: i64) -> Result<usize, Failure> {
        let (statement, most) = (&session.statements.take, BATCH as i64);
        let rows = session
            .ask(
                "taking rows from the outbox",
                statement,
                &[
                    &self.name,
                    &self.known(),
                    &first,
                    &most,
                    &self.keep_events,
                    &self.keep_age,
                ],
            )
            .await?;
        self.count(&rows)
    }

    /// Deletes at most [`BATCH`] events that have grown too old. Returns how many there were.
    pub(super) async fn trim(&self, session: &Session) -> Result<usize, Failure> {
        let (statement, most) = (&session.statements.trim, BATCH as i64);
        let rows = session
            .ask(
                "deleting what is too old",
                statement,
                &[&self.name, &self.keep_age, &most],
            )
            .await?;
        self.count(&rows)
    }

    /// The number in the first row.
    pub(super) fn count(&self, rows: &[Row]) -> Result<usize, Failure> {
        let row = rows.first().ok_or_else(|| self.odd("counting"))?;
        let count: i64 = self.get(row, 0)?;
        usize::try_from(count).map_err(|_| self.odd("counting"))
    }

    /// Tells what there is between two positions, the first left out, at most `limit` events, on these channels or on all.
    pub(super) async fn scan(
        &self,
        session: &Session,
        after: u64,
        through: u64,
        limit: usize,
        channels: Option<&[&str]>,
    ) -> Result<Scan, Failure> {
        let statement = &session.statements.scan;
        let (after, through) = (bigint(after), bigint(through));
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = session
            .ask(
                "looking for events",
                statement,
                &[&self.name, &after, &channels, &limit, &through],
            )
            .await?;
        let Some(first) = rows.first() else {
            return Err(Failure::lost(format!(
                "somebody has removed the log {:?} from PostgreSQL at {}; it is made anew",
                self.name, self.address
            )));
        };
        let mut scan = Scan {
            epoch: self.get(first, 0)?,
            gone: self.position(first, 1)?,
            last: self.position(first, 2)?,
            events: Vec::new(),
        };
        for row in &rows {
            if self.get::<Option<i64>>(row, 3)?.is_some() {
                let bytes: i32 = self.get(row, 5)?;
                scan.events.push(Found {
                    position: self.position(row, 3)?,
                    channel: self.get(row, 4)?,
                    bytes: usize::try_from(bytes).unwrap_or(0),
                });
            }
        }
        Ok(scan)
    }

    /// Fetches events by their positions, which are in order. Those that are not there any more are left out.
    pub(super) async fn fetch(
        &self,
        session: &Session,
        epoch: &str,
        positions: &[u64],
    ) -> Result<Vec<(String, Pushed)>, Failure> {
        let (Some(first), Some(last)) = (positions.first(), positions.last()) else {
            return Ok(Vec::new());
        };
        let positions: Vec<_> = positions.iter().copied().map(bigint).collect();
        let rows = session
            .ask(
                "fetching events",
                &session.statements.fetch,
                &[
                    &self.name,
                    &positions,
                    &bigint(*first),
                    &bigint(*last),
                    &self.largest(),
                ],
            )
            .await?;
        let pushed = rows.iter().map(|row| {
            let (position, channel): (_, String) = (self.position(row, 0)?, self.get(row, 1)?);
            let previous = self.position(row, 2)?;
            let columns = self.columns(row, 3)?;
            let pushed = Pushed {
                position,
                previous: Some(previous),
                placed: self.placed(&channel, epoch, position, columns),
            };
            Ok((channel, pushed))
        });
        pushed.collect()
    }

    /// Reads events of a channel after a position.
    pub(super) async fn read(
        &self,
        session: &Session,
        channel: &ChannelName,
        after: u64,
        limit: usize,
    ) -> Result<Page, Failure> {
        let rows = session
            .ask(
                "reading",
                &session.statements.read,
                &[
                    &self.name,
                    &channel.as_str(),
                    &bigint(after),
                    &i64::try_from(limit).unwrap_or(i64::MAX),
                    &self.keep_age,
                    &PAGE_BYTES,
                    &self.largest(),
                ],
            )
            .await?;
        let Some(first) = rows.first() else {
            // The receiver makes it anew.
            return Err(Failure::lost(format!(
                "there is no log {:?} at PostgreSQL at {} for the moment",
                self.name, self.address
            )));
        };
        let epoch: String = self.get(first, 0)?;
        let (gone, last) = (self.position(first, 1)?, self.position(first, 2)?);
        let newest = self.get::<Option<i64>>(first, 3)?;
        let newest = u64::try_from(newest.unwrap_or(0)).map_err(|_| self.odd("reading"))?;
        self.saw(last);
        let Some(found) = self.get::<Option<i64>>(first, 12)? else {
            // What there is on the channel is too old. Else whatever was there was deleted.
            let missing = newest.max(gone);
            return Ok(Page {
                events: Vec::new(),
                missing: if missing > after { missing } else { 0 },
                through: last,
                more: false,
            });
        };
        let previous = self.position(first, 5)?;
        let mut missing = previous;
        let mut through = after;
        let mut events = Vec::with_capacity(rows.len());
        for row in &rows {
            through = self.position(row, 4)?;
            let columns = self.columns(row, 6)?;
            match self.placed(channel.as_str(), &epoch, through, columns) {
                Some(placed) => events.push(placed),
                None => missing = through,
            }
        }
        let count = rows.len() as i64;
        let more = count < found || usize::try_from(count).is_ok_and(|count| count >= limit);
        Ok(Page {
            events,
            missing: if missing > after { missing } else { 0 },
            through: if more { through } else { last },
            more,
        })
    }

    /// The position of an id.
    pub(super) async fn place(
        &self,
        session: &Session,
        channel: &ChannelName,
        id: &str,
    ) -> Result<Option<u64>, Failure> {
        let rows = session
            .ask(
                "looking up an id",
                &session.statements.place,
                &[&self.name, &channel.as_str(), &id],
            )
            .await?;
        let row = rows.first().ok_or_else(|| self.odd("looking up an id"))?;
        let position: Option<i64> = self.get(row, 0)?;
        Ok(position.and_then(|position| u64::try_from(position).ok()))
    }

    /// The position in an id that this log gave.
    pub(super) fn position_of(&self, id: &str) -> Option<u64> {
        let epoch = self.epoch.lock();
        let epoch = epoch.as_ref()?;
        ids::position_of(epoch, id)
    }

    /// This position was seen, and so no later event may have it.
    pub(super) fn saw(&self, position: u64) {
        self.newest.fetch_max(position, Ordering::Relaxed);
    }

    fn known(&self) -> i64 {
        bigint(self.newest.load(Ordering::Relaxed))
    }

    fn largest(&self) -> i64 {
        i64::try_from(self.event_data).unwrap_or(i64::MAX)
    }

    /// The columns of an event, from this one on.
    fn columns(&self, row: &Row, first: usize) -> Result<Columns, Failure> {
        Ok(Columns {
            id: self.get(row, first)?,
            event_type: self.get(row, first + 1)?,
            data: self.get(row, first + 2)?,
            json: self.get(row, first + 3)?,
            retry: self.get(row, first + 4)?,
            age: self.get(row, first + 5)?,
        })
    }

    /// An event that was kept; `None` where it cannot be read, which is logged.
    fn placed(
        &self,
        channel: &str,
        epoch: &str,
        position: u64,
        columns: Columns,
    ) -> Option<Placed> {
        let own_id = columns.id.is_some();
        let age = Duration::from_micros(u64::try_from(columns.age).unwrap_or(0));
        match columns.event(|| ids::id_of(epoch, position), self.event_data) {
            Ok(event) => Some(Placed {
                position,
                event,
                own_id,
                age,
            }),
            Err(error) => {
                tracing::warn!(
                    log = self.name,
                    channel,
                    position,
                    %error,
                    "an event that was published through PostgreSQL cannot be read; clients are told of a gap"
                );
                None
            }
        }
    }

    fn position(&self, row: &Row, column: usize) -> Result<u64, Failure> {
        let position: i64 = self.get(row, column)?;
        u64::try_from(position).map_err(|_| self.odd("a position"))
    }

    /// A column of a row.
    pub(super) fn get<'a, T: FromSql<'a>>(
        &self,
        row: &'a Row,
        column: usize,
    ) -> Result<T, Failure> {
        row.try_get(column).map_err(|_| self.odd("a statement"))
    }

    fn odd(&self, what: &str) -> Failure {
        Failure::lost(format!(
            "PostgreSQL at {} gave an answer to {what} that cannot be read; has somebody changed the schema `fanfare`?",
            self.address
        ))
    }
}

/// A position as the server has it. None is ever greater.
fn bigint(position: u64) -> i64 {
    i64::try_from(position).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_id_that_was_given_is_a_place() {
        let retention = Retention {
            events: 0,
            age: Duration::MAX,
        };
        let log = Log::new("log".into(), "h:1".into(), retention, 10);
        assert_eq!(log.keep_events, 1);
        assert_eq!(log.position_of("r1-7"), None);
        *log.epoch.lock() = Some("r1".into());
        assert_eq!(log.position_of("r1-7"), Some(7));
        for other in [
            "r2-7",
            "r1-07",
            "r1-+7",
            "r1-",
            "r1",
            "r1-99999999999999999999",
        ] {
            assert_eq!(log.position_of(other), None, "{other}");
        }
    }
}
