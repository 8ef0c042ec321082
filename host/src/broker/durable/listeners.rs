//! Who in this process listens to which channels.

use std::{
    collections::{BTreeMap, HashSet},
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;

use super::super::{Pushed, feed::Sink};
use crate::hub::{carried::Placed, channel::ChannelName};

/// Those who listen, each by a number.
#[derive(Default)]
pub(super) struct Listeners {
    /// The newest position that anybody may have seen.
    newest: AtomicU64,
    /// Never held while a sink is told something: whoever is told may ask something here.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    listeners: BTreeMap<u64, Listener>,
    /// How many there were.
    added: u64,
    /// For events up to this position it is decided whom they are pushed to.
    routed: u64,
    /// All up to this position was pushed.
    pushed: u64,
}

struct Listener {
    sink: Sink,
    channels: HashSet<ChannelName>,
}

impl Listeners {
    /// Nobody listens; the newest event has this position.
    pub(super) fn new(newest: u64) -> Self {
        Self {
            newest: AtomicU64::new(newest),
            state: Mutex::new(State {
                routed: newest,
                pushed: newest,
                ..State::default()
            }),
        }
    }

    /// The newest position that anybody may have seen.
    pub(super) fn newest(&self) -> u64 {
        self.newest.load(Ordering::SeqCst)
    }

    /// A position was seen in the file.
    pub(super) fn saw(&self, position: u64) {
        self.newest.fetch_max(position, Ordering::SeqCst);
    }

    /// Somebody listens, to no channel yet.
    pub(super) fn add(&self, sink: Sink) -> u64 {
        let mut state = self.state.lock();
        state.added += 1;
        let number = state.added;
        let channels = HashSet::new();
        state.listeners.insert(number, Listener { sink, channels });
        number
    }

    pub(super) fn remove(&self, number: u64) {
        self.state.lock().listeners.remove(&number);
    }

    /// Events of the channel after the position that is returned are pushed.
    pub(super) fn subscribe(&self, number: u64, channel: &ChannelName) -> u64 {
        let mut state = self.state.lock();
        if let Some(listener) = state.listeners.get_mut(&number) {
            listener.channels.insert(channel.clone());
        }
        state.routed
    }

    pub(super) fn unsubscribe(&self, number: u64, channel: &ChannelName) {
        let mut state = self.state.lock();
        if let Some(listener) = state.listeners.get_mut(&number) {
            listener.channels.remove(channel);
        }
    }

    /// Sees that this one is told once all was pushed that anybody may have seen, and returns the position of that.
    pub(super) fn sync(&self, number: u64) -> u64 {
        let newest = self.newest();
        let sink = {
            let state = self.state.lock();
            // Where it was not pushed yet, all who listen then are told when it was.
            let listener = state.listeners.get(&number);
            listener
                .filter(|_| state.pushed >= newest)
                .map(|listener| listener.sink.clone())
        };
        if let Some(sink) = sink {
            sink.complete(newest);
        }
        newest
    }

    /// Pushes events, in the order of their positions, of which this is the last one.
    pub(super) fn push(&self, events: &[(ChannelName, Placed)], last: u64) {
        self.saw(last);
        let routes: Vec<_> = {
            let mut state = self.state.lock();
            state.routed = last;
            let listeners = state.listeners.values();
            listeners
                .map(|listener| {
                    let heard = |(channel, _): &&_| listener.channels.contains(channel);
                    let heard: Vec<_> = events.iter().filter(heard).collect();
                    (listener.sink.clone(), heard)
                })
                .collect()
        };
        for (sink, heard) in routes {
            for (channel, placed) in heard {
                let pushed = Pushed {
                    position: placed.position,
                    // Nothing is lost on the way.
                    previous: None,
                    placed: Some(placed.clone()),
                };
                sink.pushed(channel, pushed);
            }
        }
        let sinks: Vec<_> = {
            let mut state = self.state.lock();
            state.pushed = last;
            let listeners = state.listeners.values();
            listeners.map(|listener| listener.sink.clone()).collect()
        };
        for sink in sinks {
            sink.complete(last);
        }
    }
}
