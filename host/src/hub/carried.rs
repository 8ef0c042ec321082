//! Channels whose order is a broker's, and not the hub's.
//!
//! A broker gives each event a position, which is greater than those of all events before it, on whatever channel of
//! the publisher, and the same on every node. Here it takes the place of the hub's own sequence number. So a client's
//! place is the same on every node, and everything that the hub does by sequence numbers it does by positions.
//!
//! A node hears of a channel only while somebody here does. What it keeps of it begins where it began to hear, and
//! older events are put in front when a client comes back that needs them.

use std::{cmp::Reverse, sync::Arc, time::Duration};

use super::{
    HubError, Space, State,
    channel::ChannelName,
    connection::Connection,
    frame::Frame,
    history::History,
    membership::{Change, Membership},
    older::Older,
    resume::{self, Ids, Order},
};
use crate::event::Event;

/// An event with the place that a broker gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Its place in the order of the broker.
    pub position: u64,
    /// The event, with an id.
    pub event: Event,
    /// Whether the id came with the event; else it is the broker's.
    pub own_id: bool,
    /// How long ago it was published.
    pub age: Duration,
}

impl Placed {
    pub(super) fn frame(&self) -> Arc<Frame> {
        Frame::carried(&self.event, self.own_id, self.position, self.age)
    }
}

impl Space {
    /// Tells of the members of this space, from now on.
    pub fn membership(&self) -> Arc<Membership> {
        let mut state = self.hub.lock();
        state.memberships.entry(self.number).or_default().clone()
    }

    /// All members of this space, as if they had come just now.
    pub fn members(&self) -> Vec<Change> {
        let state = self.hub.lock();
        let members = state.members.iter();
        let changes = members.flat_map(|member| {
            let channels = member.channels.iter();
            let channels = channels.filter_map(|number| state.channels.get(*number));
            let own = channels.filter(|channel| channel.space == self.number);
            own.map(|channel| Change {
                channel: channel.name.clone(),
                connection: member.id,
                joined: true,
            })
        });
        changes.collect()
    }

    /// From now on all that is published on the channel after this position is delivered here.
    pub fn begin(&self, channel: &ChannelName, position: u64) {
        let mut guard = self.hub.lock();
        let state = &mut *guard;
        let number = state.channels.find_or_insert(self.number, channel, 0);
        state.change_history(number, |history, ids| {
            history.begin_after(position, self.number, ids);
        });
        if let Some(channel) = state.channels.get_mut(number) {
            channel.carried = true;
        }
        state.ids.saw(position);
    }

    /// What is published on the channel is not delivered here any more: what is kept of it is of no use.
    pub fn stop(&self, channel: &ChannelName) {
        let mut guard = self.hub.lock();
        let state = &mut *guard;
        let Some(number) = state.channels.find(self.number, channel) else {
            return;
        };
        state.change_history(number, |history, ids| {
            history.begin_after(0, self.number, ids);
        });
        if let Some(channel) = state.channels.get_mut(number) {
            channel.carried = false;
        }
        state.forget_if_unused(number);
    }

    /// Delivers an event that the broker has carried, and returns how many connections it was queued for. Events of a
    /// channel must come in the order of their positions.
    pub fn deliver(&self, channel: &ChannelName, placed: &Placed) -> u32 {
        let settings = self.hub.settings();
        let frame = placed.frame();
        let mut guard = self.hub.lock();
        let state = &mut *guard;
        state.ids.saw(placed.position);
        let number = state.channels.find(self.number, channel);
        let carried = |number| {
            state
                .channels
                .get(number)
                .is_some_and(|known| known.carried)
        };
        let Some(number) = number.filter(|number| carried(*number)) else {
            return 0;
        };
        // A server that took over from another may not know that it was published already, and accept it again.
        if let Some(id) = frame.own_id()
            && let Some(channel) = state.channels.get(number)
            && channel.history.position(id, &state.ids).is_some()
        {
            self.hub.counters().add_duplicate();
            return 0;
        }
        let delivered = self.keep_and_deliver(state, number, frame);
        state.post.at_once();
        state.trim(settings.history_total_bytes, settings.history_age);
        drop(guard);
        self.hub.counters().add_published();
        delivered
    }

    /// Puts older events of the channel, oldest first, in front of what is kept, which begins after `back`. Events up to
    /// `missing` may have been published and are not among them. False if what is kept begins elsewhere by now.
    pub fn prepend(
        &self,
        channel: &ChannelName,
        older: &[Placed],
        missing: u64,
        back: u64,
    ) -> bool {
        let frames: Vec<_> = older.iter().map(Placed::frame).collect();
        let settings = self.hub.settings();
        let mut guard = self.hub.lock();
        let state = &mut *guard;
        let number = state.channels.find(self.number, channel);
        let begins = |number| {
            let channel = state.channels.get(number)?;
            Some(channel.history.evicted_through())
        };
        let Some(number) = number.filter(|number| begins(*number) == Some(back)) else {
            return false;
        };
        let space = self.number;
        state.change_history(number, |history, ids| {
            history.prepend(frames, missing, space, settings, ids);
        });
        // Where newer events are watched already, the older ones go with the first of them.
        if let Some(channel) = state.channels.get_mut(number)
            && let Some(due) = channel.history.due(settings.history_age)
            && !std::mem::replace(&mut channel.watched, true)
        {
            state.expiries.push(Reverse((due, number)));
        }
        state.trim(settings.history_total_bytes, settings.history_age);
        true
    }

    /// How many events of a channel are kept.
    pub fn history_events(&self) -> usize {
        self.hub.settings().history_events
    }

    /// Lets a connection hear the channel from now on, after what it missed since its place in the order of the broker,
    /// if that is known.
    pub fn register_at(
        &self,
        connection: &Connection,
        channel: &ChannelName,
        place: Option<u64>,
    ) -> Result<(), HubError> {
        let order = Order::Broker(place, None);
        self.join(connection, channel, order).map(drop)
    }

    /// The same, where the client may have missed events that are not kept here any more: these older ones go before those
    /// that are. False if some in between were let go meanwhile; then nothing was done.
    pub fn register_after(
        &self,
        connection: &Connection,
        channel: &ChannelName,
        place: u64,
        older: &Older,
    ) -> Result<bool, HubError> {
        self.join(connection, channel, Order::Broker(Some(place), Some(older)))
    }

    /// The place of an id among the events of this channel that this node keeps, if it is known here. Whether it is one of
    /// another channel only the broker knows, which has them all.
    pub fn place(&self, channel: &ChannelName, id: &str) -> Option<u64> {
        let state = self.hub.lock();
        let number = state.channels.find(self.number, channel)?;
        let channel = state.channels.get(number)?;
        channel.history.position(id, &state.ids)
    }

    /// Events of the channel up to this position may have been published and are not kept here; later ones are.
    pub fn reaches_back_to(&self, channel: &ChannelName) -> Option<u64> {
        let state = self.hub.lock();
        let number = state.channels.find(self.number, channel)?;
        let channel = state.channels.get(number)?;
        Some(channel.history.evicted_through())
    }

    /// Events of the channel up to this position may have been missed here: everybody who hears it is told of a gap, and
    /// so is everybody who comes back with an id from before.
    pub fn gap(&self, channel: &ChannelName, position: u64) {
        let mut guard = self.hub.lock();
        let state = &mut *guard;
        state.ids.saw(position);
        let Some(number) = state.channels.find(self.number, channel) else {
            return;
        };
        let Some(channel) = state.channels.get_mut(number) else {
            return;
        };
        channel.history.missed_through(position);
        let gap = resume::gap_frame(&channel.name, None, position);
        let told = channel.deliver(&gap, &mut state.post);
        drop(guard);
        self.hub.counters().add_gaps(told.into());
    }
}

impl State {
    /// Changes what a channel keeps, and what all of it costs.
    fn change_history(&mut self, number: u32, change: impl FnOnce(&mut History, &mut Ids)) {
        if let Some(channel) = self.channels.get_mut(number) {
            let before = channel.history.cost();
            change(&mut channel.history, &mut self.ids);
            self.history_cost = self.history_cost + channel.history.cost() - before;
        }
    }
}
