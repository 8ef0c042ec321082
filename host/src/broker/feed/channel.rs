//! One channel that a node listens to: what was delivered of it, and what comes next.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use tokio::sync::{oneshot, watch};

use super::super::{BrokerError, Page, Pushed};
use crate::hub::carried::Placed;

/// Events that are held while what is before them is read; past it, they are read too.
const HELD: usize = 1024;

/// A channel that this node listens to.
#[derive(Debug)]
pub(super) struct Channel {
    /// Tells it from one of the same name that was listened to before.
    pub(super) number: u64,
    pub(super) phase: Phase,
    /// All that was published up to this position was delivered, or was before this node listened.
    pub(super) through: u64,
    /// Calls that need the channel to be listened to although nobody hears it yet.
    pub(super) users: usize,
    /// Somebody loads what was before this node listened, or has done so.
    pub(super) loaded: Arc<tokio::sync::Mutex<bool>>,
    /// Tells how opening it ended.
    pub(super) opened: watch::Sender<Option<Result<(), BrokerError>>>,
    /// What was pushed while it cannot be delivered, in order.
    held: VecDeque<Pushed>,
    /// Some of it was let go.
    overflowed: bool,
    /// Publications that are under way, which want to know how many connections their event went to.
    publishing: usize,
    /// What was delivered since the first of them began: position and connections.
    delivered: Vec<(u64, u32)>,
    /// Who waits until all up to a position was delivered.
    waiting: BTreeMap<u64, Vec<oneshot::Sender<u32>>>,
}

/// How far a channel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The broker is asked to push it.
    Opening,
    /// What is pushed is delivered.
    Live,
    /// Something was missed and is to be read first.
    Behind,
}

/// Where events of the channel are delivered to.
pub(super) trait Deliver {
    /// Delivers an event, and says to how many connections.
    fn event(&self, placed: &Placed) -> u32;
}

impl Channel {
    pub(super) fn new(number: u64) -> Self {
        Self {
            number,
            phase: Phase::Opening,
            through: 0,
            users: 0,
            loaded: Default::default(),
            opened: watch::Sender::new(None),
            held: VecDeque::new(),
            overflowed: false,
            publishing: 0,
            delivered: Vec::new(),
            waiting: BTreeMap::new(),
        }
    }

    /// Takes an event that was pushed. `complete` is a position up to which the push is known to have lost nothing.
    /// False if something before it was missed: then the channel is behind.
    pub(super) fn take(&mut self, pushed: Pushed, complete: u64, to: &impl Deliver) -> bool {
        if self.phase != Phase::Live {
            self.hold(pushed);
        } else if pushed.position > self.through {
            let through = self.through.max(complete);
            if pushed.previous.is_none_or(|previous| previous <= through) {
                self.deliver(pushed.position, pushed.placed.as_ref(), to);
            } else {
                self.phase = Phase::Behind;
                self.hold(pushed);
                return false;
            }
        }
        true
    }

    fn hold(&mut self, pushed: Pushed) {
        if self.held.len() == HELD {
            self.held.clear();
            self.overflowed = true;
        }
        self.held.push_back(pushed);
    }

    fn deliver(&mut self, position: u64, placed: Option<&Placed>, to: &impl Deliver) {
        let delivered = placed.map_or(0, |placed| to.event(placed));
        if self.publishing > 0 {
            self.delivered.push((position, delivered));
        }
        self.reached(position, delivered);
    }

    /// All up to this position was delivered, and the event of this position to so many.
    fn reached(&mut self, position: u64, delivered: u32) {
        self.through = self.through.max(position);
        while let Some(entry) = self.waiting.first_entry()
            && *entry.key() <= self.through
        {
            let delivered = if *entry.key() == position {
                delivered
            } else {
                0
            };
            for waiting in entry.remove() {
                // Whoever waited may have given up.
                let _ = waiting.send(delivered);
            }
        }
    }

    /// The broker pushes everything after this position. False if something of that was let go meanwhile: then the
    /// channel is behind.
    pub(super) fn begin(&mut self, position: u64, to: &impl Deliver) -> bool {
        self.phase = Phase::Behind;
        self.through = position;
        let page = Page {
            through: position,
            ..Page::default()
        };
        match self.caught_up(page) {
            Some(missed) => {
                self.phase = Phase::Live;
                for missed in missed {
                    self.deliver(missed.position, missed.placed.as_ref(), to);
                }
                true
            }
            None => false,
        }
    }

    /// Something was missed, on this channel or another one of the publisher: what is pushed is held from now on.
    pub(super) fn fall_behind(&mut self) {
        if self.phase == Phase::Live {
            self.phase = Phase::Behind;
        }
    }

    /// What was missed, in order, where all that is held follows on what was read after [`Channel::through`]. It is to be
    /// delivered, and then the channel is live.
    pub(super) fn caught_up(&mut self, page: Page) -> Option<Vec<Pushed>> {
        if std::mem::take(&mut self.overflowed) {
            return None;
        }
        let mut through = self.through.max(page.through);
        let mut missed = Vec::with_capacity(page.events.len() + self.held.len());
        missed.extend(page.events.into_iter().map(|placed| Pushed {
            position: placed.position,
            previous: None,
            placed: Some(placed),
        }));
        let held = self.held.iter();
        for pushed in held.filter(|pushed| pushed.position > page.through) {
            if pushed.previous.is_some_and(|previous| previous > through) {
                return None;
            }
            through = through.max(pushed.position);
            missed.push(pushed.clone());
        }
        missed.retain(|pushed| pushed.position > self.through);
        self.held = VecDeque::new();
        Some(missed)
    }

    /// Delivers an event that was missed.
    pub(super) fn deliver_missed(&mut self, missed: &Pushed, to: &impl Deliver) {
        self.deliver(missed.position, missed.placed.as_ref(), to);
    }

    /// All that was missed up to this position was delivered.
    pub(super) fn go_live(&mut self, through: u64) {
        self.reached(through, 0);
        self.phase = Phase::Live;
    }

    /// The push broke. `complete` is a position up to which it is known to have lost nothing.
    pub(super) fn broke(&mut self, complete: u64) {
        if self.phase == Phase::Live {
            self.reached(complete, 0);
            self.phase = Phase::Behind;
        }
        self.held.clear();
        self.overflowed = false;
    }

    /// A publication begins.
    pub(super) fn begin_publishing(&mut self) {
        self.publishing += 1;
    }

    /// A publication has ended.
    pub(super) fn end_publishing(&mut self) {
        self.publishing -= 1;
        if self.publishing == 0 {
            self.delivered = Vec::new();
        }
    }

    /// How many connections the event of this position went to, now or as soon as it is delivered.
    pub(super) fn delivered(&mut self, position: u64) -> Result<u32, oneshot::Receiver<u32>> {
        if position <= self.through {
            let delivered = self.delivered.iter().rev();
            let mut delivered = delivered.filter(|(delivered, _)| *delivered == position);
            return Ok(delivered.next().map_or(0, |(_, delivered)| *delivered));
        }
        let (sender, receiver) = oneshot::channel();
        self.waiting.entry(position).or_default().push(sender);
        Err(receiver)
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, time::Duration};

    use super::*;
    use crate::event::{Data, Event, IdForm};

    /// The positions of what was delivered.
    #[derive(Default)]
    struct Heard(RefCell<Vec<u64>>);

    impl Deliver for Heard {
        fn event(&self, placed: &Placed) -> u32 {
            self.0.borrow_mut().push(placed.position);
            3
        }
    }

    fn placed(position: u64) -> Placed {
        let event = Event::new(Data::Text("x".into()), 10).unwrap();
        Placed {
            position,
            event: event.with_id(position.to_string(), IdForm::Plain).unwrap(),
            own_id: false,
            age: Duration::ZERO,
        }
    }

    fn pushed(position: u64, previous: Option<u64>) -> Pushed {
        Pushed {
            position,
            previous,
            placed: Some(placed(position)),
        }
    }

    fn live(through: u64) -> (Channel, Heard) {
        let (mut channel, heard) = (Channel::new(1), Heard::default());
        assert!(channel.begin(through, &heard));
        (channel, heard)
    }

    /// What is delivered after this was read, or whether more is to be read.
    fn read(channel: &mut Channel, positions: &[u64], through: u64) -> Option<Vec<u64>> {
        let page = Page {
            events: positions.iter().copied().map(placed).collect(),
            through,
            ..Page::default()
        };
        let missed = channel.caught_up(page)?;
        Some(missed.iter().map(|missed| missed.position).collect())
    }

    #[test]
    fn what_follows_is_delivered_and_nothing_twice() {
        let (mut channel, heard) = live(10);
        for (position, previous) in [(12, Some(10)), (12, Some(10)), (11, None), (15, Some(12))] {
            assert!(channel.take(pushed(position, previous), 0, &heard));
        }
        assert!(channel.take(pushed(20, None), 0, &heard));
        assert_eq!(*heard.0.borrow(), [12, 15, 20]);
    }

    #[test]
    fn a_hole_is_read_before_anything_else_is_delivered() {
        let (mut channel, heard) = live(10);
        assert!(!channel.take(pushed(14, Some(12)), 0, &heard));
        assert!(channel.take(pushed(16, Some(14)), 0, &heard));
        // One more was pushed than was there when this was read.
        let missed = read(&mut channel, &[12, 14], 15);
        assert_eq!(missed, Some(vec![12, 14, 16]));
        assert_eq!(*heard.0.borrow(), [0; 0]);
        channel.go_live(16);
        assert!(channel.take(pushed(17, Some(16)), 0, &heard));
        assert_eq!(*heard.0.borrow(), [17]);
    }

    #[test]
    fn a_hole_after_what_was_read_is_read_too() {
        let (mut channel, heard) = live(10);
        channel.broke(0);
        assert!(channel.take(pushed(30, Some(20)), 0, &heard));
        assert_eq!(read(&mut channel, &[12, 14], 15), None);
        let missed = read(&mut channel, &[12, 14, 20, 30], 31);
        assert_eq!(missed, Some(vec![12, 14, 20, 30]));
    }

    #[test]
    fn what_was_delivered_before_the_break_is_not_delivered_again() {
        let (mut channel, heard) = live(10);
        assert!(channel.take(pushed(12, Some(10)), 0, &heard));
        channel.broke(13);
        assert!(channel.take(pushed(15, Some(12)), 0, &heard));
        assert_eq!(read(&mut channel, &[12, 15], 16), Some(vec![15]));
    }

    #[test]
    fn what_the_push_is_known_to_have_told_is_no_hole() {
        let (mut channel, heard) = live(10);
        assert!(channel.take(pushed(30, Some(20)), 20, &heard));
        assert_eq!(*heard.0.borrow(), [30]);
    }

    #[test]
    fn what_was_pushed_while_it_was_opened_is_delivered_then() {
        let (mut channel, heard) = (Channel::new(1), Heard::default());
        for position in [9, 11, 12] {
            channel.take(pushed(position, Some(position - 1)), 0, &heard);
        }
        assert!(channel.begin(10, &heard));
        assert_eq!(*heard.0.borrow(), [11, 12]);
    }

    #[test]
    fn more_than_can_be_held_is_read() {
        let (mut channel, heard) = (Channel::new(1), Heard::default());
        for position in 1..=HELD as u64 + 5 {
            channel.take(pushed(position, None), 0, &heard);
        }
        assert!(!channel.begin(0, &heard));
        assert_eq!(channel.phase, Phase::Behind);
        let all: Vec<_> = (1..=HELD as u64).collect();
        let missed = read(&mut channel, &all, HELD as u64).unwrap();
        assert_eq!(missed.len(), HELD + 5);
    }

    #[test]
    fn whoever_published_hears_to_how_many_it_went() {
        let (mut channel, heard) = live(10);
        channel.begin_publishing();
        channel.take(pushed(12, None), 0, &heard);
        channel.take(pushed(13, None), 0, &heard);
        assert_eq!(channel.delivered(12).unwrap(), 3);
        let mut waits = channel.delivered(15).unwrap_err();
        let mut passed_by = channel.delivered(14).unwrap_err();
        channel.take(pushed(15, None), 0, &heard);
        channel.end_publishing();
        assert_eq!(waits.try_recv(), Ok(3));
        assert_eq!(passed_by.try_recv(), Ok(0));
        assert_eq!(channel.delivered(12).unwrap(), 0);
    }
}
