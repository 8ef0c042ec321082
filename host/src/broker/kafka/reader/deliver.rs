//! What is done with a record in its turn: it is kept, delivered, and whoever waits for it is told.

use rdkafka::{Message as _, message::BorrowedMessage};

use super::{
    super::{
        super::{Accepted, Pushed},
        index::{Index, Taken},
        merge::{Marked, Waits},
        record::{Content, Mark, Record},
        shared::{State, now},
    },
    Reader, place,
};
use crate::hub::channel::ChannelName;

/// What a record that waits counts beside its data.
const RECORD_COST: usize = 512;

/// A record as it was read.
pub(in super::super) struct Read {
    record: Record,
    partition: i32,
    offset: u64,
    time: Option<i64>,
    bytes: usize,
    /// The channel, where it is an event that this node cannot read.
    unreadable: Option<ChannelName>,
}

impl Read {
    /// Reads a record, whose data may have so many bytes.
    pub(super) fn new(message: &BorrowedMessage<'_>, limit: usize) -> Self {
        let record = Record::read(message, limit);
        let key = message.key().filter(|_| record.is_unreadable());
        let unreadable = key.and_then(|key| ChannelName::new(str::from_utf8(key).ok()?).ok());
        Self {
            record,
            partition: message.partition(),
            offset: place(message.offset()),
            time: message.timestamp().to_millis(),
            bytes: message.payload_len() + RECORD_COST,
            unreadable,
        }
    }

    /// Its time, in milliseconds since 1970; 0 where it has none.
    fn millis(&self) -> u64 {
        let time = self.time.and_then(|time| u64::try_from(time).ok());
        time.unwrap_or(0)
    }

    /// A mark, if it is one.
    pub(super) fn into_mark(self) -> Option<Marked> {
        let time = self.millis();
        match self.record.content {
            Ok(Content::Mark(mark)) => Some(Marked {
                mark,
                origin: self.record.origin,
                time,
            }),
            _ => None,
        }
    }

    pub(super) fn record(&self) -> &Record {
        &self.record
    }
}

impl Waits for Read {
    fn time(&self) -> Option<i64> {
        self.time
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Reader {
    /// Delivers a record that has this place in the order, unless it was there before.
    pub(super) fn deliver(&mut self, at: u64, read: Read) {
        let time = read.millis();
        let Read {
            record,
            partition,
            offset,
            unreadable,
            ..
        } = read;
        let mut state = self.shared.lock();
        if at < state.index.next_offset() {
            return;
        }
        state.index.read(at, time, now());
        self.progress.untold += 1;
        let (taken, event) = match record.content {
            Ok(Content::Event(channel, event)) => {
                let own_id = event.id().is_some();
                let heard = state.heard.contains(&channel);
                let pushed = heard.then(|| event.clone());
                let taken = state.index.take(&channel, event);
                let placed = pushed.filter(|_| !taken.duplicate);
                let placed = placed.and_then(|event| state.index.placed(&taken, event, own_id));
                (taken, placed.map(|placed| (channel, placed)))
            }
            Ok(Content::Mark(mark)) if self.several.is_none() => {
                self.mark_read(&mut state, mark, time);
                (no_event(at, &state.index), None)
            }
            // What stands here is from when the topic had one partition, or from nobody that belongs here.
            Ok(Content::Mark(_) | Content::Cut(_)) => (no_event(at, &state.index), None),
            Err(error) => {
                match &unreadable {
                    Some(channel) => {
                        tracing::warn!(
                            topic = self.topic,
                            partition,
                            offset,
                            channel = channel.as_str(),
                            %error,
                            "an event cannot be read; clients are told of a gap"
                        );
                        state.index.take_unreadable(channel);
                    }
                    None => tracing::warn!(
                        topic = self.topic,
                        partition,
                        offset,
                        %error,
                        "a record is not an event of a publisher and is skipped"
                    ),
                }
                (no_event(at, &state.index), None)
            }
        };
        let waiting = state.waiting(&self.shared, record.origin);
        drop(state);
        if let Some((channel, placed)) = event {
            let pushed = Pushed {
                position: placed.position,
                previous: None,
                placed: Some(placed),
            };
            self.sink.pushed(&channel, pushed);
        }
        if let Some(channel) = unreadable {
            self.sink.unreadable(&channel, taken.position);
        }
        if let (Some(waiting), Some(id)) = (waiting, taken.id) {
            // Whoever waited may have given up.
            let _ = waiting.send(Accepted {
                id,
                position: taken.position,
                duplicate: taken.duplicate,
            });
        }
    }

    /// A mark of the order topic has its turn.
    pub(super) fn deliver_mark(&mut self, at: u64, marked: Marked) {
        let Marked { mark, origin, time } = marked;
        let mut state = self.shared.lock();
        if at < state.index.next_offset() {
            return;
        }
        // Its time is none of an event: what comes after it may have been produced long before.
        state.index.read(at, 0, now());
        self.progress.untold += 1;
        self.mark_read(&mut state, mark, time);
        let position = state.index.position_of(at);
        let waiting = state.waiting(&self.shared, origin);
        drop(state);
        if let Some(waiting) = waiting {
            let _ = waiting.send(Accepted {
                id: String::new(),
                position,
                duplicate: false,
            });
        }
    }

    fn mark_read(&self, state: &mut State, mark: Mark, time: u64) {
        let epoch = mark.epoch.clone();
        if state.index.mark(mark, time.min(now())) {
            tracing::info!(
                topic = self.topic,
                epoch,
                "the log has begun anew; who comes back with an id from before is told of a gap"
            );
        }
    }
}

fn no_event(at: u64, index: &Index) -> Taken {
    Taken {
        position: index.position_of(at),
        duplicate: false,
        id: Some(String::new()),
    }
}
