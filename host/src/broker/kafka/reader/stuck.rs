//! A cut that waits for what does not come: nothing after it has its turn until it does.

use std::time::Instant;

use rdkafka::Offset;

use super::{
    super::{super::BrokerError, topic},
    Reader,
};

/// What the cut in front waits for.
#[derive(Clone, Copy)]
pub(super) struct Stuck {
    partition: usize,
    offset: u64,
    since: Instant,
}

impl Reader {
    /// Where what a cut takes does not come for long, sees whether it is there at all: an error then, after which reading
    /// begins anew, and with another order where the cut says what cannot be.
    pub(super) fn look_at_front(&mut self) -> Result<(), BrokerError> {
        let Some(several) = &mut self.several else {
            return Ok(());
        };
        let Some((partition, offset, through)) = several.merge.waits_for() else {
            several.stuck = None;
            return Ok(());
        };
        let known = several.stuck;
        let known = known.filter(|stuck| (stuck.partition, stuck.offset) == (partition, offset));
        let stuck = *several.stuck.insert(known.unwrap_or(Stuck {
            partition,
            offset,
            since: Instant::now(),
        }));
        let limit = self.clients.timeout();
        if stuck.since.elapsed() <= limit {
            return Ok(());
        }
        let partitions = several.merge.partitions();
        let ends = topic::edges(&self.consumer, &self.topic, partitions, Offset::End, limit);
        let end = ends.ok().and_then(|ends| ends.get(partition).copied());
        if end.is_some_and(|end| end < through) {
            several.lose();
            several.wrong = several.merge.next_of_order();
            return Err(self.another_log());
        }
        Err(self.clients.unavailable(format!(
            "what partition {partition} of the topic {} has from offset {offset} on does not come, and other nodes have \
             read it",
            self.topic
        )))
    }
}
