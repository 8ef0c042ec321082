//! The record of a partition that was read last, by which it is seen whether there is still the same log.

use rdkafka::{Message as _, message::BorrowedMessage};

use super::place;

/// The record that was read last.
#[derive(Default)]
pub(in super::super) struct Last {
    stamp: Option<Stamp>,
    /// Whether that record is to be read again.
    check: bool,
}

/// What tells a record from another one with its offset.
#[derive(PartialEq, Eq)]
struct Stamp {
    offset: u64,
    time: Option<i64>,
    key: Option<Vec<u8>>,
    bytes: usize,
}

/// A record that was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Checked {
    /// It is to be taken.
    New,
    /// It is the one that was read last.
    Again,
    /// It is in the place of the one that was read last.
    Another,
}

impl Last {
    /// The offset of the record that was read last.
    pub(super) fn offset(&self) -> Option<u64> {
        self.stamp.as_ref().map(|stamp| stamp.offset)
    }

    /// The record that was read last is read again, as the next one.
    pub(super) fn check(&mut self) {
        self.check = self.stamp.is_some();
    }

    /// It is not to be read again.
    pub(super) fn trust(&mut self) {
        self.check = false;
    }

    /// Whether that record is still to be read again.
    pub(super) fn is_unchecked(&self) -> bool {
        self.check
    }

    /// A record was read.
    pub(super) fn read(&mut self, message: &BorrowedMessage<'_>) -> Checked {
        let stamp = Stamp {
            offset: place(message.offset()),
            time: message.timestamp().to_millis(),
            key: message.key().map(<[u8]>::to_vec),
            bytes: message.payload_len(),
        };
        if std::mem::take(&mut self.check) {
            if self.stamp.as_ref() == Some(&stamp) {
                return Checked::Again;
            }
            self.stamp = None;
            return Checked::Another;
        }
        // What was read before may come once more.
        if self
            .stamp
            .as_ref()
            .is_none_or(|last| last.offset < stamp.offset)
        {
            self.stamp = Some(stamp);
        }
        Checked::New
    }
}
