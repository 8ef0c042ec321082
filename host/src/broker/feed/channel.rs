//! One channel that a node listens to: what was delivered of it, and what comes next.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use tokio::sync::{oneshot, watch};

use super::super::{BrokerError, Pushed};
use crate::hub::{carried::Placed, older::Older};

/// Events of a channel that are held while what is before them is read, and the bytes of their data; past that, they are
/// read too.
const HELD: usize = 1024;
const HELD_BYTES: usize = 256 << 10;
/// Deliveries that are remembered for those who publish.
const REMEMBERED: usize = 1024;

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
    /// What was read for clients that come back now and need more than this node keeps.
    pub(super) older: Option<Arc<Older>>,
    /// Tells how opening it ended.
    pub(super) opened: watch::Sender<Option<Result<(), BrokerError>>>,
    /// What was pushed while it cannot be delivered, in order.
    held: VecDeque<Pushed>,
    held_bytes: usize,
    /// Some of it was let go.
    overflowed: bool,
    /// The last gap that was told.
    gap: u64,
    /// Publications that are under way, which want to know how many connections their event went to.
    publishing: usize,
    /// What was delivered since the first of them began, the newest of it: position and connections.
    delivered: VecDeque<(u64, u32)>,
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
            older: None,
            opened: watch::Sender::new(None),
            held: VecDeque::new(),
            held_bytes: 0,
            overflowed: false,
            gap: 0,
            publishing: 0,
            delivered: VecDeque::new(),
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
        let bytes = pushed.placed.as_ref();
        self.held_bytes += bytes.map_or(0, |placed| placed.event.data_bytes());
        self.held.push_back(pushed);
        if self.held.len() > HELD || self.held_bytes > HELD_BYTES {
            self.let_go();
            self.overflowed = true;
        }
    }

    fn deliver(&mut self, position: u64, placed: Option<&Placed>, to: &impl Deliver) {
        let delivered = placed.map_or(0, |placed| to.event(placed));
        if self.publishing > 0 {
            if self.delivered.len() == REMEMBERED {
                self.delivered.pop_front();
            }
            self.delivered.push_back((position, delivered));
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
        self.gap = self.gap.max(position);
        if !self.follows_on(position) {
            return false;
        }
        for held in self.take_held() {
            self.deliver(held.position, held.placed.as_ref(), to);
        }
        self.phase = Phase::Live;
        true
    }

    /// Something was missed, on this channel or another one of the publisher: what is pushed is held from now on.
    pub(super) fn fall_behind(&mut self) {
        if self.phase == Phase::Live {
            self.phase = Phase::Behind;
        }
    }

    /// What is kept after this position is read now, with all that was let go before.
    pub(super) fn begin_reading(&mut self) -> u64 {
        self.overflowed = false;
        self.through
    }

    /// Whether all that is held follows on what was read up to this position.
    pub(super) fn follows_on(&self, mut through: u64) -> bool {
        let mut held = self.held.iter();
        let follow = held.all(|pushed| {
            let follows = pushed.previous.is_none_or(|previous| previous <= through);
            through = through.max(pushed.position);
            follows
        });
        follow && !self.overflowed
    }

    /// Takes what is held and was not delivered yet.
    pub(super) fn take_held(&mut self) -> Vec<Pushed> {
        let through = self.through;
        let held = std::mem::take(&mut self.held).into_iter();
        self.held_bytes = 0;
        held.filter(|pushed| pushed.position > through).collect()
    }

    /// Delivers an event that was missed.
    pub(super) fn deliver_missed(
        &mut self,
        position: u64,
        placed: Option<&Placed>,
        to: &impl Deliver,
    ) {
        if position > self.through {
            self.deliver(position, placed, to);
        }
    }

    /// All that was missed up to this position was delivered.
    pub(super) fn caught_up(&mut self, through: u64) {
        self.reached(through, 0);
    }

    /// Whether a gap up to this position was not told yet. It is told now.
    pub(super) fn is_news(&mut self, gap: u64) -> bool {
        let news = gap > self.gap;
        self.gap = self.gap.max(gap);
        news
    }

    /// A gap up to here was told, or nothing from before is known.
    pub(super) fn gap(&self) -> u64 {
        self.gap
    }

    fn let_go(&mut self) {
        self.held.clear();
        self.held_bytes = 0;
    }

    /// The push broke. `complete` is a position up to which it is known to have lost nothing.
    pub(super) fn broke(&mut self, complete: u64) {
        if self.phase == Phase::Live {
            self.reached(complete, 0);
            self.phase = Phase::Behind;
        }
        self.let_go();
        // What was pushed before it was opened, and is lost now, is to be read.
        self.overflowed = self.phase == Phase::Opening;
    }

    /// A publication begins.
    pub(super) fn begin_publishing(&mut self) {
        self.publishing += 1;
    }

    /// A publication has ended.
    pub(super) fn end_publishing(&mut self) {
        self.publishing -= 1;
        if self.publishing == 0 {
            self.delivered = VecDeque::new();
        }
    }

    /// How many connections the event of this position went to, now or as soon as it is delivered.
    pub(super) fn delivered(&mut self, position: u64) -> Result<u32, oneshot::Receiver<u32>> {
        if position <= self.through {
            let delivered = self.delivered.iter().rev();
            let mut delivered = delivered.filter(|(delivered, _)| *delivered == position);
            return Ok(delivered.next().map_or(0, |(_, delivered)| *delivered));
        }
        if self.waiting.len() >= REMEMBERED {
            // Those who gave up, while the push is broken.
            self.waiting.retain(|_, waiting| {
                waiting.retain(|waiting| !waiting.is_closed());
                !waiting.is_empty()
            });
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

    /// Reads these, up to a position. False if more is to be read.
    fn read(channel: &mut Channel, heard: &Heard, positions: &[u64], through: u64) -> bool {
        let follows = channel.follows_on(through);
        for position in positions {
            channel.deliver_missed(*position, Some(&placed(*position)), heard);
        }
        channel.caught_up(through);
        if follows {
            assert!(channel.begin(channel.through, heard));
        }
        follows
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
        assert!(read(&mut channel, &heard, &[12, 14], 15));
        assert!(channel.take(pushed(17, Some(16)), 0, &heard));
        assert_eq!(*heard.0.borrow(), [12, 14, 16, 17]);
    }

    #[test]
    fn a_hole_after_what_was_read_is_read_too() {
        let (mut channel, heard) = live(10);
        channel.broke(0);
        assert!(channel.take(pushed(30, Some(20)), 0, &heard));
        assert!(!read(&mut channel, &heard, &[12, 14], 15));
        assert!(read(&mut channel, &heard, &[20, 30], 31));
        assert_eq!(*heard.0.borrow(), [12, 14, 20, 30]);
    }

    #[test]
    fn what_was_delivered_before_the_break_is_not_delivered_again() {
        let (mut channel, heard) = live(10);
        assert!(channel.take(pushed(12, Some(10)), 0, &heard));
        channel.broke(13);
        assert!(channel.take(pushed(15, Some(12)), 0, &heard));
        assert!(read(&mut channel, &heard, &[12, 15], 16));
        assert_eq!(*heard.0.borrow(), [12, 15]);
    }

    #[test]
    fn a_break_while_it_is_opened_is_not_forgotten() {
        let (mut channel, heard) = (Channel::new(1), Heard::default());
        channel.take(pushed(11, Some(10)), 0, &heard);
        channel.broke(0);
        assert!(!channel.begin(10, &heard));
        assert_eq!(channel.begin_reading(), 10);
        assert!(read(&mut channel, &heard, &[11], 12));
        assert_eq!(*heard.0.borrow(), [11]);
    }

    #[test]
    fn a_gap_is_told_once() {
        let (mut channel, _) = live(10);
        assert!(!channel.is_news(10));
        assert!(channel.is_news(20));
        assert!(!channel.is_news(20));
        assert!(channel.is_news(21));
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
        assert_eq!(channel.begin_reading(), 0);
        let all: Vec<_> = (1..=HELD as u64 + 2).collect();
        assert!(read(&mut channel, &heard, &all, HELD as u64 + 2));
        assert_eq!(heard.0.borrow().len(), HELD + 5);
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
