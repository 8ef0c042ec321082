//! What is compared with the model: ends as they are told, and everything at the end.

use std::{sync::atomic::Ordering, time::Instant};

use futures_util::FutureExt;

use super::{
    super::channel,
    INACTIVITY, QUEUE_BYTES, WRITE_TIMEOUT,
    app::App,
    client::{Item, after},
    reference::{Reference, name, space},
};
use crate::{
    event::{Data, Event},
    hub::CloseReason,
};
impl App {
    // === ends ===

    /// Remembers what a client hears that may end now.
    pub fn expect_end(&mut self, client: usize) {
        if self.reference.clients[client].ended.is_none() {
            self.clients[client].expected_names = Some(self.reference.names(client));
        }
    }

    /// Sees that what is told of ends is right, and tells the model of ends that were not its own.
    pub fn hear_of_ends(&mut self, now: Instant) {
        for number in 0..self.clients.len() {
            let unread = self.unread(number);
            let client = &mut self.clients[number];
            let late = now >= client.last_read + WRITE_TIMEOUT;
            client.stuck |= unread > 0 && late && client.wire.is_socket();
            client.slow |= unread > QUEUE_BYTES;
        }
        while let Some(Some(ended)) = self.ended.recv().now_or_never() {
            let mut ids = self.clients.iter().map(|client| client.connection.id());
            let number = ids.position(|id| id == ended.connection).unwrap();
            assert!(!self.clients[number].told, "an end is told once");
            if self.reference.clients[number].ended.is_none() {
                self.expect_end(number);
                assert!(
                    self.may_end(number, ended.reason, now),
                    "{:?}",
                    ended.reason
                );
                self.reference.end(number, ended.reason);
            }
            let client = &mut self.clients[number];
            client.told = true;
            assert!(!client.connection.is_open());
            assert_eq!(Some(ended.reason), self.reference.clients[number].ended);
            assert_eq!(Some(ended.channels), client.expected_names);
        }
    }

    /// Bytes that a client may not have taken.
    fn unread(&self, number: usize) -> usize {
        let expected = &self.reference.clients[number].items;
        let unread = after(expected, &self.clients[number].wire.heard);
        let unread = unread.into_iter().flatten();
        unread.map(|(_, item)| item.cost()).sum()
    }

    /// Whether a client may end for a reason that no step gave.
    fn may_end(&self, number: usize, reason: CloseReason, now: Instant) -> bool {
        let client = &self.clients[number];
        match reason {
            CloseReason::Slow => client.slow,
            CloseReason::Inactive => client.quiet && now >= client.last_event + INACTIVITY,
            CloseReason::ClientGone => client.left || client.stuck,
            _ => false,
        }
    }

    // === what is checked at the end ===

    fn open(&self) -> impl Iterator<Item = usize> {
        let clients = self.reference.clients.iter().enumerate();
        let open = clients.filter(|(_, client)| client.ended.is_none());
        open.map(|(number, _)| number)
    }

    /// Whether a client can do nothing but read all that it ought to hear.
    fn hears_all(&self, number: usize) -> bool {
        let client = &self.clients[number];
        let ended = self.reference.clients[number].ended;
        // Its shard may have given it up before it heard that it had ended for another reason.
        let given_up = ended.is_some() && (client.slow || client.stuck);
        !client.left && !given_up && client.wire.is_attached()
    }

    /// Whether a client has heard all that it ought to hear, and its end was told if it has left.
    pub fn is_done(&self, number: usize) -> bool {
        let client = &self.clients[number];
        let expected = &self.reference.clients[number];
        if client.left {
            return client.told;
        }
        let left = after(&expected.items, &client.wire.heard);
        let missing = left.is_some_and(|left| left.iter().any(|item| item.1.is_sure()));
        let ended = expected.ended.is_some();
        !self.hears_all(number)
            || !missing && (client.wire.over, client.wire.complete) == (ended, ended)
    }

    pub fn check(&self) {
        let data = |event: &Event| match event.data() {
            Data::Text(data) | Data::Json(data) => data.clone(),
        };
        let mut heard_at_least = 0;
        let mut heard_at_most = 0;
        for (number, client) in self.clients.iter().enumerate() {
            let expected = &self.reference.clients[number];
            let wire = &client.wire;
            let events = |item: &&Item| matches!(item, Item::Event { .. });
            heard_at_least += wire.heard.iter().filter(events).count() as u64;
            let items = expected.items.iter().map(|item| &item.1);
            heard_at_most += items.filter(events).count() as u64;
            let as_expected = after(&expected.items, &wire.heard).is_some();
            assert!(
                as_expected && self.is_done(number),
                "{wire:?} has not heard {expected:?}"
            );
            assert_eq!(client.connection.is_open(), expected.ended.is_none());
            assert_eq!(client.told, expected.ended.is_some());
            assert_eq!(
                self.hub.channels(&client.connection),
                self.reference.names(number)
            );
        }
        let figures = self.hub.figures();
        assert_eq!(figures.connections, self.open().count());
        assert!(figures.channels >= self.reference.channels());
        assert_eq!(figures.published, self.reference.published);
        assert_eq!(figures.duplicates, self.reference.duplicates);
        assert!((heard_at_least..=heard_at_most).contains(&figures.delivered));
        let (sure, unsure) = (self.reference.gaps, self.reference.unsure_gaps);
        assert!((sure..=sure + unsure).contains(&figures.gaps));
        assert_eq!(figures.gaps + figures.resumed, self.reference.caught_up);
        if self
            .clients
            .iter()
            .all(|client| client.left || client.wire.is_attached())
        {
            assert_eq!(figures.queued_bytes, 0);
        }
        for number in Reference::every_channel() {
            let space = &self.spaces[space(number)];
            let channel = channel(&name(number));
            assert_eq!(
                space.subscribers(&channel),
                self.reference.subscribers(number).len() as u64
            );
            let history = space.history(&channel, 100);
            let history: Vec<_> = history.iter().map(data).collect();
            assert_eq!(history, self.reference.history(number));
        }
    }

    pub fn end(&mut self) {
        let figures = self.hub.figures();
        for (reason, count) in figures.closed {
            let ended = self
                .reference
                .clients
                .iter()
                .filter(|client| client.ended == Some(reason));
            assert_eq!(count, ended.count() as u64, "{reason:?}");
        }
        assert_eq!((figures.connections, figures.queued_bytes), (0, 0));
        self.hub
            .expire(Instant::now() + self.hub.settings().history_age);
        let figures = self.hub.figures();
        assert_eq!((figures.channels, figures.history_bytes), (0, 0));
        let state = self.hub.shared.state.lock();
        assert!(state.expiries.is_empty() && state.ids.is_empty());
        assert_eq!(self.hub.shared.deliveries.load(Ordering::Relaxed), 0);
        drop(state);
        // Nothing more is told, and a drained hub says so.
        let next = self.ended.recv().now_or_never();
        assert_eq!(next, self.drained.then_some(None));
    }
}
