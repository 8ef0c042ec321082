//! A group: the connections of one shard that hear one channel.

use std::collections::BTreeSet;

use smallvec::{SmallVec, smallvec};

/// More than so many are a set: then one of them is found at once.
const FEW: usize = 32;

/// Numbers of connections.
#[derive(Debug)]
pub(super) enum Group {
    /// Most channels have few. In no order.
    Few(SmallVec<[u32; 4]>),
    /// In the order of their numbers, which is about the order in which they came and in which the system has put down
    /// what it knows of their sockets: writing in any other costs more.
    Many(BTreeSet<u32>),
}

impl Group {
    /// A group of one.
    pub(super) fn new(number: u32) -> Self {
        Self::Few(smallvec![number])
    }

    pub(super) fn insert(&mut self, number: u32) {
        match self {
            Self::Few(few) if few.contains(&number) => {}
            Self::Few(few) if few.len() < FEW => few.push(number),
            Self::Few(few) => {
                let mut many: BTreeSet<_> = few.drain(..).collect();
                many.insert(number);
                *self = Self::Many(many);
            }
            Self::Many(many) => {
                many.insert(number);
            }
        }
    }

    pub(super) fn remove(&mut self, number: u32) {
        match self {
            Self::Few(few) => {
                if let Some(at) = few.iter().position(|known| *known == number) {
                    few.swap_remove(at);
                }
            }
            Self::Many(many) => {
                many.remove(&number);
                // Well below the bound, so that one that comes and goes does not turn it to and fro.
                if many.len() <= FEW / 2 {
                    *self = Self::Few(many.iter().copied().collect());
                }
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Few(few) if few.is_empty())
    }

    /// Does something for each.
    pub(super) fn for_each(&self, mut each: impl FnMut(u32)) {
        match self {
            Self::Few(few) => few.iter().for_each(|number| each(*number)),
            Self::Many(many) => many.iter().for_each(|number| each(*number)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_group_is_a_set(steps in proptest::collection::vec((0..3u8, 0..100u32), 0..500)) {
            let mut group = Group::new(7);
            let mut model = BTreeSet::from([7]);
            for (step, number) in steps {
                if step > 0 {
                    group.insert(number);
                    model.insert(number);
                } else {
                    group.remove(number);
                    model.remove(&number);
                }
                prop_assert_eq!(group.is_empty(), model.is_empty());
            }
            let mut members = Vec::new();
            group.for_each(|number| members.push(number));
            members.sort_unstable();
            prop_assert!(members.iter().eq(&model));
        }
    }
}
