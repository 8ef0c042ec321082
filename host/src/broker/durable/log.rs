//! What is in the file, and the transactions that change it.

use std::{
    collections::{HashMap, hash_map::Entry},
    fs,
    path::PathBuf,
    sync::LazyLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};

use super::{
    super::Retention,
    Sync,
    file::{FileError, WAL, WAL_KEPT, beside},
    writer::Publication,
};
use crate::hub::channel::ChannelName;

/// Events beyond the retention that a transaction deletes at most on each channel: more than it takes. There are as many
/// only where the retention was changed.
const SURPLUS: u64 = 1000;
/// Events that are too old that are deleted at most: for each one that is published, and beside.
const OLD_EACH: usize = 2;
const OLD: usize = 100;
/// The same while nothing is published.
const OLD_IDLE: usize = 1000;
/// Pages that are given back to the file system at a time, while nothing is published.
const PAGES: i64 = 500;
/// Pages that are kept for what will be published, and which part of the file.
const FREE: i64 = 1000;
const FREE_PART: i64 = 4;
/// Past it, the WAL is emptied even if readers have to be waited for, in bytes.
const WAL_FULL: u64 = 3 * WAL_KEPT as u64;
/// Where events may be lost, the clock may be this much behind, in microseconds.
const SKEW: u64 = 10_000_000;

/// The log, as the thread that changes it sees it.
#[derive(Debug)]
pub(super) struct Log {
    connection: Connection,
    file: PathBuf,
    retention: Retention,
    sync: Sync,
    known: Known,
    /// The size of the WAL from which on it is emptied.
    wal_full: u64,
}

/// What the table `log` says.
#[derive(Debug)]
struct Known {
    epoch: String,
    last: u64,
    forgotten: u64,
    /// Not all may be on the disk yet.
    unsettled: bool,
}

/// What became of a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) position: u64,
    pub(super) duplicate: bool,
}

/// What there is to do when nothing is published.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Chores {
    /// More, at once.
    More,
    /// Nothing before this time has passed.
    After(Duration),
}

/// A row of `channels`.
struct Channel {
    number: i64,
    events: u64,
    newest: u64,
}

// === impl Log ===

impl Log {
    /// The log in a file. It is made where there is none.
    pub(super) fn attach(
        mut connection: Connection,
        file: PathBuf,
        retention: Retention,
        sync: Sync,
    ) -> Result<Self, FileError> {
        let known = attach(&mut connection);
        let known = known.map_err(|error| FileError::new(&file, &error))?;
        let named = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let epoch = known.epoch.as_bytes();
        if !(1..=32).contains(&epoch.len()) || !epoch.iter().copied().all(named) || known.last == 0
        {
            return Err(FileError::Damaged {
                file,
                found: "its log has no name or no position".into(),
            });
        }
        Ok(Self {
            connection,
            file,
            retention,
            sync,
            known,
            wal_full: WAL_FULL,
        })
    }

    /// What the log is called in the ids of events.
    pub(super) fn epoch(&self) -> &str {
        &self.known.epoch
    }

    /// The newest position.
    pub(super) fn last(&self) -> u64 {
        self.known.last
    }

    /// Accepts events, all of them or none.
    pub(super) fn append(&mut self, publications: &[Publication]) -> rusqlite::Result<Vec<Kept>> {
        let (now, known) = (now(), &mut self.known);
        let oldest = oldest(now.max(known.last), self.retention.age);
        let transaction = begin(&mut self.connection)?;
        let old = OLD + OLD_EACH * publications.len();
        let forgotten = forget(&transaction, oldest, old)?.unwrap_or(known.forgotten);
        let mut appending = Appending {
            transaction: &transaction,
            now,
            oldest,
            last: known.last,
            forgotten,
            channels: HashMap::new(),
        };
        let kept: rusqlite::Result<Vec<_>> = publications
            .iter()
            .map(|publication| appending.append(publication))
            .collect();
        let kept = kept?;
        appending.finish(self.retention.events.max(1) as u64)?;
        let last = appending.last;
        let boot = boot().filter(|_| self.sync == Sync::Process);
        let mut update = transaction.prepare_cached("UPDATE log SET last = ?, boot = ?")?;
        update.execute(params![integer(last), boot])?;
        drop(update);
        transaction.commit()?;
        (known.last, known.forgotten) = (last, forgotten);
        known.unsettled = boot.is_some();
        self.bound_wal();
        Ok(kept)
    }

    /// Does what is due when nothing is published.
    pub(super) fn chores(&mut self) -> rusqlite::Result<Chores> {
        let oldest = oldest(now().max(self.known.last), self.retention.age);
        let front = "SELECT position FROM events ORDER BY position LIMIT 1";
        let front = self.connection.query_row(front, [], |row| get(row, 0));
        match front.optional()? {
            Some(front) if front <= oldest => {
                let transaction = begin(&mut self.connection)?;
                let forgotten = forget(&transaction, oldest, OLD_IDLE)?;
                transaction.commit()?;
                self.known.forgotten = forgotten.unwrap_or(self.known.forgotten);
                self.bound_wal();
                Ok(Chores::More)
            }
            _ if self.give_back()? || self.settle()? => Ok(Chores::More),
            Some(front) => Ok(Chores::After(Duration::from_micros(front - oldest))),
            None => Ok(Chores::After(Duration::MAX)),
        }
    }

    /// Sees that all is on the disk. False if it is.
    fn settle(&mut self) -> rusqlite::Result<bool> {
        if !self.known.unsettled {
            return Ok(false);
        }
        let settled = "UPDATE log SET boot = NULL";
        self.connection.execute(settled, [])?;
        // The WAL is on the disk up to some point: where the change above is, all that was accepted before is too.
        self.empty_wal()?;
        self.known.unsettled = false;
        Ok(true)
    }

    /// Gives room back to the file system, where much of the file is free. False if there is nothing to give.
    fn give_back(&mut self) -> rusqlite::Result<bool> {
        let free = self.pages("freelist_count")?;
        let all = self.pages("page_count")?;
        if free <= FREE || free <= all / FREE_PART {
            return Ok(false);
        }
        {
            let vacuum = format!("PRAGMA incremental_vacuum({PAGES})");
            let mut vacuum = self.connection.prepare(&vacuum)?;
            let mut rows = vacuum.query([])?;
            while rows.next()?.is_some() {}
        }
        self.bound_wal();
        // A file of an older SQLite may not be able to.
        Ok(self.pages("freelist_count")? < free)
    }

    fn pages(&self, which: &str) -> rusqlite::Result<i64> {
        let connection = &self.connection;
        connection.pragma_query_value(None, which, |row| row.get(0))
    }

    /// SQLite empties the WAL by itself, but only when nobody reads what is in it, and that may never be.
    fn bound_wal(&mut self) {
        let size = || fs::metadata(beside(&self.file, WAL)).map_or(0, |wal| wal.len());
        if size() < self.wal_full {
            return;
        }
        let emptied = self.empty_wal();
        // It will be tried again: not with each event, because it waits.
        self.wal_full = size() + WAL_FULL;
        if !matches!(emptied, Ok(true)) {
            tracing::warn!(
                file = %self.file.display(),
                ?emptied,
                "the file that events are written to first grows, because it cannot be emptied: does another program \
                 read the events file?"
            );
        }
    }

    /// Writes all of the WAL back into the file. False if somebody reads it.
    fn empty_wal(&self) -> rusqlite::Result<bool> {
        let empty = "PRAGMA wal_checkpoint(TRUNCATE)";
        let connection = &self.connection;
        connection.query_row(empty, [], |row| Ok(row.get::<_, i64>(0)? == 0))
    }

    /// Sees that all is on the disk, and closes the file.
    pub(super) fn close(mut self) {
        if let Err(error) = self.settle() {
            // What was accepted is in the WAL, and is found there.
            tracing::debug!(file = %self.file.display(), %error, "the events file is left as it is");
        }
    }

    #[cfg(test)]
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }
}

/// A transaction in which events are accepted.
struct Appending<'a> {
    transaction: &'a Transaction<'a>,
    now: u64,
    /// What has a position up to this is too old.
    oldest: u64,
    last: u64,
    forgotten: u64,
    channels: HashMap<&'a ChannelName, Channel>,
}

impl<'a> Appending<'a> {
    fn append(&mut self, publication: &'a Publication) -> rusqlite::Result<Kept> {
        let id = publication.event.id();
        let channel = self.channel(&publication.channel)?;
        let (number, newest) = (channel.number, channel.newest);
        if let Some(id) = id
            && let Some(position) = position_on(self.transaction, number, id, self.oldest)?
        {
            return Ok(Kept {
                position,
                duplicate: true,
            });
        }
        let position = self.now.max(self.last + 1);
        let mut insert = self.transaction.prepare_cached(
            "INSERT INTO events (position, channel, previous, id, payload) VALUES (?, ?, ?, ?, ?)",
        )?;
        insert.execute(params![
            integer(position),
            number,
            integer(newest),
            id,
            publication.payload
        ])?;
        self.last = position;
        if let Some(channel) = self.channels.get_mut(&publication.channel) {
            channel.events += 1;
            channel.newest = position;
        }
        Ok(Kept {
            position,
            duplicate: false,
        })
    }

    fn channel(&mut self, name: &'a ChannelName) -> rusqlite::Result<&Channel> {
        match self.channels.entry(name) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let transaction = self.transaction;
                let mut select = transaction
                    .prepare_cached("SELECT number, events, newest FROM channels WHERE name = ?")?;
                let known = select.query_row([name.as_str()], |row| {
                    Ok(Channel {
                        number: row.get(0)?,
                        events: get(row, 1)?,
                        newest: get(row, 2)?,
                    })
                });
                let channel = match known.optional()? {
                    Some(channel) => channel,
                    None => {
                        let mut insert = transaction.prepare_cached(
                            "INSERT INTO channels (name, events, newest) VALUES (?, 0, 0)",
                        )?;
                        Channel {
                            number: insert.insert([name.as_str()])?,
                            events: 0,
                            // What there was of it before is gone.
                            newest: self.forgotten,
                        }
                    }
                };
                Ok(entry.insert(channel))
            }
        }
    }

    /// Deletes what is more than so many events on a channel, and notes what the channels have.
    fn finish(&mut self, most: u64) -> rusqlite::Result<()> {
        for channel in self.channels.values_mut() {
            if channel.events > most {
                let mut delete = self.transaction.prepare_cached(
                    "DELETE FROM events WHERE position IN (\
                     SELECT position FROM events INDEXED BY events_by_channel \
                     WHERE channel = ? ORDER BY position LIMIT ?)",
                )?;
                let surplus = (channel.events - most).min(SURPLUS);
                let deleted = delete.execute(params![channel.number, integer(surplus)])?;
                channel.events = channel.events.saturating_sub(deleted as u64);
            }
            let mut update = self
                .transaction
                .prepare_cached("UPDATE channels SET events = ?, newest = ? WHERE number = ?")?;
            update.execute(params![
                integer(channel.events),
                integer(channel.newest),
                channel.number
            ])?;
        }
        Ok(())
    }
}

/// Reads the log, or makes one.
fn attach(connection: &mut Connection) -> rusqlite::Result<Known> {
    let now = now();
    let transaction = begin(connection)?;
    let found = transaction.query_row("SELECT epoch, last, forgotten, boot FROM log", [], |row| {
        let before: Option<String> = row.get(3)?;
        let known = Known {
            epoch: row.get(0)?,
            last: get(row, 1)?,
            forgotten: get(row, 2)?,
            unsettled: before.is_some(),
        };
        Ok((known, before))
    });
    let (mut known, before) = match found.optional()? {
        Some(found) => found,
        None => {
            let epoch = format!("d{:09x}", rand::random::<u64>() >> 28);
            transaction.execute(
                "INSERT INTO log (number, epoch, last, forgotten, lost) VALUES (1, ?1, ?2, 0, ?2)",
                params![epoch, integer(now)],
            )?;
            let known = Known {
                epoch,
                last: now,
                forgotten: 0,
                unsettled: false,
            };
            (known, None)
        }
    };
    if before.is_some() && before.as_deref() != boot() {
        // The machine was started anew, and nobody had seen to it that all was on its disk.
        known.last = now.max(known.last + SKEW);
        known.unsettled = false;
        transaction.execute(
            "UPDATE log SET last = ?1, lost = ?1, boot = NULL",
            [integer(known.last)],
        )?;
    }
    transaction.commit()?;
    Ok(known)
}

/// Tells runs of the machine apart, where it says so.
fn boot() -> Option<&'static str> {
    static BOOT: LazyLock<Option<String>> =
        LazyLock::new(|| fs::read_to_string("/proc/sys/kernel/random/boot_id").ok());
    BOOT.as_deref().map(str::trim)
}

fn begin(connection: &mut Connection) -> rusqlite::Result<Transaction<'_>> {
    if !connection.is_autocommit() {
        // One that failed in a way in which it could not be undone.
        connection.execute_batch("ROLLBACK")?;
    }
    connection.transaction_with_behavior(TransactionBehavior::Immediate)
}

/// Deletes events up to a position, the oldest first, and channels that have none any more. Returns the position of the
/// newest one, if there were any.
fn forget(
    transaction: &Transaction<'_>,
    oldest: u64,
    limit: usize,
) -> rusqlite::Result<Option<u64>> {
    let mut counts: HashMap<i64, u64> = HashMap::new();
    let mut newest = None;
    {
        let mut select = transaction.prepare_cached(
            "SELECT position, channel FROM events WHERE position <= ? ORDER BY position LIMIT ?",
        )?;
        let mut rows = select.query([integer(oldest), integer(limit as u64)])?;
        while let Some(row) = rows.next()? {
            newest = Some(get(row, 0)?);
            *counts.entry(row.get(1)?).or_default() += 1;
        }
    }
    let Some(newest) = newest else {
        return Ok(None);
    };
    let execute = |change: &str, values: &[i64]| {
        let mut change = transaction.prepare_cached(change)?;
        change.execute(rusqlite::params_from_iter(values))
    };
    execute("DELETE FROM events WHERE position <= ?", &[integer(newest)])?;
    for (channel, count) in counts {
        execute(
            "UPDATE channels SET events = events - ? WHERE number = ?",
            &[integer(count), channel],
        )?;
        execute(
            "DELETE FROM channels WHERE number = ? AND events <= 0",
            &[channel],
        )?;
    }
    execute("UPDATE log SET forgotten = ?", &[integer(newest)])?;
    Ok(Some(newest))
}

/// The position of an id on a channel.
pub(super) fn position_on(
    connection: &Connection,
    channel: i64,
    id: &str,
    oldest: u64,
) -> rusqlite::Result<Option<u64>> {
    let mut select = connection.prepare_cached(
        "SELECT position FROM events INDEXED BY events_by_id \
         WHERE id = ? AND channel = ? AND position > ? ORDER BY position DESC LIMIT 1",
    )?;
    let position = select.query_row(params![id, channel, integer(oldest)], |row| get(row, 0));
    position.optional()
}

/// The time as a position.
pub(super) fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    // Never 0.
    now.map_or(1, |now| now.as_micros() as u64).max(1)
}

/// At this time, what has a position up to the one that is returned is too old.
pub(super) fn oldest(now: u64, age: Duration) -> u64 {
    now.saturating_sub(u64::try_from(age.as_micros()).unwrap_or(u64::MAX))
}

/// A position as it is kept.
pub(super) fn integer(position: u64) -> i64 {
    i64::try_from(position).unwrap_or(i64::MAX)
}

/// A position, or a number of things.
pub(super) fn get(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, value))
}

#[cfg(test)]
mod tests;
