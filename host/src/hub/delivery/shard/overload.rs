//! Overload: which connections go while more waits on the node than may.

use super::{Shard, Sink};

/// Past the node's bound of waiting bytes, connections are closed until so much of it is free again: an eighth.
const SHED_TO: (usize, usize) = (7, 8);

impl Shard {
    /// Closes the connections for which most waits, while more waits on the node than may.
    pub(super) fn shed(&mut self) {
        if !self.shared.is_over() {
            self.shared.set_worst(self.index, 0);
            return;
        }
        let waiting = self
            .outlets
            .iter()
            .filter(|(_, outlet)| !matches!(outlet.sink, Sink::Gone));
        let mut waiting: Vec<_> = waiting
            .map(|(number, outlet)| (outlet.waiting_bytes(), number))
            .filter(|(bytes, _)| *bytes > 0)
            .collect();
        waiting.sort_unstable();
        while let Some((bytes, number)) = waiting.pop() {
            self.shared.set_worst(self.index, bytes);
            if !self.shared.exceeds(SHED_TO) || self.shared.wake_worse(self.index, bytes) {
                return;
            }
            self.slow(number);
        }
        self.shared.set_worst(self.index, 0);
    }
}
