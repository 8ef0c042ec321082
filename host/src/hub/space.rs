//! A space: the channels of one publisher.

use std::{cmp::Reverse, sync::Arc};

use tokio::sync::oneshot;

use super::{
    Hub, HubError, Ids, Member, State,
    channel::{ChannelName, Channels},
    connection::{CloseReason, Connection, ConnectionId},
    delivery::command::Command,
    frame::Frame,
    occupancy::Occupancies,
    resume::{self, Order, Replay},
};
use crate::event::{self, Event};

/// Channels of which one connection gets what it missed. A guest may let it join and leave any number of them;
/// past this it is told of a gap.
const REPLAYED_CHANNELS: usize = 10_000;

/// Members that are looked at while the lock is held once.
const MEMBERS_AT_A_TIME: usize = 1000;

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The id it has.
    pub id: String,
    /// Connections that it was queued for.
    pub delivered: u32,
    /// It was published before; nobody heard it again.
    pub duplicate: bool,
}

/// The channels of one publisher. Clones share them.
#[derive(Debug, Clone)]
pub struct Space {
    pub(super) hub: Hub,
    pub(super) number: u32,
}

impl Space {
    pub(super) fn new(hub: Hub, number: u32) -> Self {
        Self { hub, number }
    }

    /// The largest data of an event that this space takes, in bytes.
    pub fn event_data(&self) -> usize {
        self.hub.settings().event_data
    }

    /// Tells this of channels that become occupied or vacated here, from now on.
    pub fn tell_occupancy(&self, occupancies: Arc<Occupancies>) {
        let mut state = self.hub.lock();
        state.occupancies.insert(self.number, occupancies);
    }

    /// Lets a connection hear a channel from now on, after what it missed since its Last-Event-ID.
    pub fn register(&self, connection: &Connection, channel: &ChannelName) -> Result<(), HubError> {
        self.join(connection, channel, Order::Hub).map(drop)
    }

    /// The same, in whosever order the channel is. False if there is a hole between older events and those that are kept;
    /// then nothing was done.
    pub(super) fn join(
        &self,
        connection: &Connection,
        channel: &ChannelName,
        order: Order<'_>,
    ) -> Result<bool, HubError> {
        let mut state = self.hub.lock();
        let state = &mut *state;
        let number = state.members.find(connection.id());
        let member = number.and_then(|number| state.members.get_mut(number));
        let member = member.ok_or(HubError::Closed)?;
        connection.set_used();
        let known = state.channels.find(self.number, channel);
        if known.is_some_and(|known| member.channels.contains(&known)) {
            return Ok(true);
        }
        if let Order::Broker(Some(place), Some(older)) = order
            && let Some(known) = known.and_then(|known| state.channels.get(known))
            && place < known.history.evicted_through()
            && !older.reach(&known.history)
        {
            return Ok(false);
        }
        let limit = self.hub.settings().channels_per_connection;
        if member.channels.len() >= limit {
            return Err(HubError::Limited {
                name: "channels-per-connection",
                limit,
            });
        }
        let forgotten = state.ids.forgotten_through();
        let number = state
            .channels
            .find_or_insert(self.number, channel, forgotten);
        if let Some(entry) = state.channels.get_mut(number) {
            entry.join(member.outlet, &mut state.post);
            if entry.connections() == 1
                && let Some(occupancies) = state.occupancies.get(&self.number)
            {
                occupancies.note(channel.clone(), true);
            }
        }
        if let Some(membership) = state.memberships.get(&self.number) {
            membership.joined(channel, member.id);
        }
        let outlet = member.outlet;
        let frames = self.missed_by(member, number, order, &state.channels, &state.ids);
        let known = member
            .returned
            .as_ref()
            .map(|returned| returned.replayed.len());
        member.channels.push(number);
        if known >= Some(REPLAYED_CHANNELS) {
            // Joining and leaving without end makes no queue without end.
            frames
                .into_iter()
                .for_each(|frame| state.post.send(outlet, frame));
        } else if !frames.is_empty() {
            let command = Command::Replay {
                outlet: outlet.number,
                frames,
            };
            state.post.tell(outlet.shard, command);
        }
        Ok(true)
    }

    /// What a connection is told first of a channel that it begins to hear.
    ///
    /// After the release older events follow newer ones here. A block of nothing but an id then takes the client's
    /// place forward again.
    fn missed_by(
        &self,
        member: &mut Member,
        number: u32,
        order: Order<'_>,
        channels: &Channels,
        ids: &Ids,
    ) -> Vec<Arc<Frame>> {
        let (Some(returned), Some(channel)) = (&mut member.returned, channels.get(number)) else {
            return Vec::new();
        };
        let key = (self.number, channel.name.clone());
        if returned.replayed.contains(&key) {
            return Vec::new();
        }
        let last = &returned.last;
        let room = returned.replayed.len() < REPLAYED_CHANNELS;
        let (place, older) = match order {
            Order::Hub => {
                let place = resume::place(last, self.number, &channel.history, ids);
                (place, None)
            }
            Order::Broker(place, older) => (place, older),
        };
        let place = place.filter(|_| room);
        let Replay { gap, missed } =
            resume::replay(last, &channel.name, &channel.history, place, older);
        if room {
            returned.replayed.insert(key);
        }
        let counters = self.hub.counters();
        match &gap {
            Some(_) => counters.add_gaps(1),
            None => counters.add_resumed(),
        }
        let newest = missed.last().map(|frame| frame.sequence);
        let mut frames: Vec<_> = gap.into_iter().chain(missed).collect();
        if let (Some(newest), false) = (newest, returned.held) {
            let heard = member.channels.iter();
            let heard = heard.filter_map(|number| channels.get(*number)?.history.last());
            let ahead = heard.max_by_key(|frame| frame.sequence);
            if let Some(ahead) = ahead.filter(|frame| frame.sequence > newest) {
                frames.push(Frame::word(&event::id_block(ahead.id()), ahead.sequence));
            }
        }
        frames
    }

    /// A connection no longer hears a channel; one that hears no other is closed after what was queued before.
    pub fn remove(&self, connection: &str, channel: &ChannelName) -> Result<(), HubError> {
        let mut state = self.hub.lock();
        let state = &mut *state;
        let member = ConnectionId::parse(connection).and_then(|id| state.members.find(id));
        let Some((number, member)) =
            member.and_then(|number| Some((number, state.members.get_mut(number)?)))
        else {
            return Err(HubError::NotFound(format!(
                "there is no connection {connection:?} here"
            )));
        };
        let known = state.channels.find(self.number, channel);
        let heard = |known| member.channels.iter().position(|number| *number == known);
        let Some(at) = known.and_then(heard) else {
            return Err(HubError::NotFound(format!(
                "connection {connection:?} does not hear channel {:?}",
                channel.as_str()
            )));
        };
        if member.channels.len() == 1 {
            // Not removed first: the hook for its end is to name this channel.
            self.hub.end(state, number, CloseReason::Closed);
        } else {
            let channel = member.channels.swap_remove(at);
            let (id, outlet) = (member.id, member.outlet);
            state.unsubscribe(id, outlet, channel);
        }
        Ok(())
    }

    /// Waits until what was published before is on its way, where a node has more to deliver than it can.
    pub async fn room(&self) {
        self.hub.shared.engine.room().await;
    }

    /// Puts an event in the channel's history and in the queue of everybody who hears it. An event without an
    /// id is given one.
    pub fn publish(&self, channel: &ChannelName, event: &Event) -> Published {
        let settings = self.hub.settings();
        let rest = event.encode_after_id();

        let mut guard = self.hub.lock();
        let state = &mut *guard;
        let known = state.channels.find(self.number, channel);
        let known = known.and_then(|number| state.channels.get(number));
        if let (Some(id), Some(channel)) = (event.id(), known)
            && channel.history.position(id, &state.ids).is_some()
        {
            self.hub.counters().add_duplicate();
            return Published {
                id: id.to_owned(),
                delivered: 0,
                duplicate: true,
            };
        }
        let sequence = state.ids.next();
        let id = match event.id() {
            Some(id) => id.to_owned(),
            None => state.ids.name(sequence),
        };
        let frame = Frame::published(event, &id, &rest, sequence);
        let forgotten = state.ids.forgotten_through();
        let number = state
            .channels
            .find_or_insert(self.number, channel, forgotten);
        let delivered = self.keep_and_deliver(state, number, frame);
        state.forget_if_unused(number);
        state.trim(settings.history_total_bytes, settings.history_age);
        drop(guard);
        self.hub.counters().add_published();
        Published {
            id,
            delivered,
            duplicate: false,
        }
    }

    pub(super) fn keep_and_deliver(
        &self,
        state: &mut State,
        number: u32,
        frame: Arc<Frame>,
    ) -> u32 {
        let settings = self.hub.settings();
        let Some(channel) = state.channels.get_mut(number) else {
            return 0;
        };
        let due = frame.at + settings.history_age;
        let delivered = channel.deliver(&frame, &mut state.post);
        let before = channel.history.cost();
        channel
            .history
            .push(frame, self.number, settings, &mut state.ids);
        state.history_cost = state.history_cost + channel.history.cost() - before;
        if !channel.history.is_empty() && !channel.watched {
            channel.watched = true;
            state.expiries.push(Reverse((due, number)));
        }
        delivered
    }

    /// How many connections hear a channel.
    pub fn subscribers(&self, channel: &ChannelName) -> u64 {
        let state = self.hub.lock();
        let number = state.channels.find(self.number, channel);
        let channel = number.and_then(|number| state.channels.get(number));
        channel.map_or(0, |channel| channel.connections().into())
    }

    /// The ids of the connections that hear a channel, sorted, at most `limit` of them.
    pub async fn presence(&self, channel: &ChannelName, limit: usize) -> Vec<String> {
        // It is work for each connection that hears the channel, as publishing is.
        self.room().await;
        let Some((number, replies)) = self.ask_who(channel) else {
            return Vec::new();
        };
        let mut members = Vec::new();
        for reply in replies {
            members.extend(reply.await.unwrap_or_default());
        }
        let mut ids = Vec::new();
        for members in members.chunks(MEMBERS_AT_A_TIME) {
            let state = self.hub.lock();
            let members = members
                .iter()
                .filter_map(|member| state.members.get(*member));
            // One that has ended meanwhile is not there any more, or its number is another's.
            let present = members.filter(|member| member.channels.contains(&number));
            ids.extend(present.map(|member| member.id));
        }
        ids.sort_unstable();
        ids.iter()
            .take(limit)
            .map(ConnectionId::to_string)
            .collect()
    }

    /// Asks the shards who hears a channel.
    fn ask_who(&self, channel: &ChannelName) -> Option<(u32, Vec<oneshot::Receiver<Vec<u32>>>)> {
        let mut state = self.hub.lock();
        let state = &mut *state;
        let number = state.channels.find(self.number, channel)?;
        let channel = state.channels.get(number)?;
        let ask = |(shard, group, connections)| {
            let (reply, receiver) = oneshot::channel();
            let command = Command::Who { group, reply };
            state.post.deliver(shard, command, connections, 0);
            receiver
        };
        Some((number, channel.groups().map(ask).collect()))
    }

    /// The newest events of a channel's history, oldest first, at most `limit` of them.
    pub fn history(&self, channel: &ChannelName, limit: usize) -> Vec<Event> {
        let state = self.hub.lock();
        let number = state.channels.find(self.number, channel);
        let channel = number.and_then(|number| state.channels.get(number));
        let newest = channel.map_or_else(Vec::new, |channel| channel.history.newest(limit));
        drop(state);
        let events = newest.iter().map(|frame| frame.event(self.event_data()));
        events.flatten().collect()
    }
}
