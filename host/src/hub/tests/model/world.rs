//! A node with its apps and their clients, beside those of the model.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use tokio::sync::Semaphore;

use super::{
    super::{channel, node},
    APPS, PATIENCE, Step, WRITE_TIMEOUT,
    app::App,
    reference::{Reference, name, space},
};
use crate::hub::{
    Engine,
    delivery::{self, worker::Worker},
};

const SEATS: usize = 1000;

/// A node, its apps and their clients.
pub struct World {
    engine: Engine,
    workers: Vec<Worker>,
    apps: Vec<App>,
    seats: Arc<Semaphore>,
    /// The time of the shards.
    now: Instant,
}

impl World {
    pub fn new() -> Self {
        let node = delivery::Settings {
            write_timeout: WRITE_TIMEOUT,
            ..node()
        };
        let (engine, workers) = Engine::with_workers(&node).unwrap();
        Self {
            apps: (0..APPS).map(|_| App::new(engine.clone())).collect(),
            engine,
            workers,
            seats: Arc::new(Semaphore::new(SEATS)),
            now: Instant::now(),
        }
    }

    pub fn take(&mut self, app: usize, step: Step) {
        match step {
            Step::Wait(milliseconds) => {
                self.now += Duration::from_millis(milliseconds);
                // What a shard does not look at for longer than a client may be stuck would look stuck.
                self.workers
                    .iter_mut()
                    .for_each(|worker| worker.watch(true));
            }
            Step::Watch(shard) => shard.get_mut(&mut self.workers).watch(true),
            Step::Work(shard) => {
                shard.get_mut(&mut self.workers).work(Some(self.now));
            }
            step => self.apps[app].take(step, &self.seats, self.now),
        }
        for app in &mut self.apps {
            app.hear_of_ends(self.now);
        }
    }

    /// The shards do all that there is to do, and the clients read it all.
    pub fn settle(&mut self) {
        for app in &mut self.apps {
            for number in 0..app.clients.len() {
                app.reference.release(number);
                app.clients[number].connection.release();
            }
        }
        let give_up = Instant::now() + PATIENCE;
        let mut quiet = 0;
        while quiet < 3 && Instant::now() < give_up {
            self.turn_all();
            let mut some = false;
            for app in &mut self.apps {
                for client in &mut app.clients {
                    some |= client.wire.read();
                }
                some |= (0..app.clients.len()).any(|client| !app.is_done(client));
            }
            quiet = if some { 0 } else { quiet + 1 };
        }
    }

    fn turn_all(&mut self) {
        for worker in &mut self.workers {
            worker.turn(Some(self.now));
        }
        for app in &mut self.apps {
            app.hear_of_ends(self.now);
        }
    }

    /// What was heard and what is counted is what the model says.
    pub fn check(&mut self) {
        for number in 0..self.apps.len() {
            self.apps[number].check();
            self.check_presence(number);
        }
    }

    fn check_presence(&mut self, number: usize) {
        let app = &self.apps[number];
        let mut asked = Vec::new();
        for number in Reference::every_channel() {
            let subscribers = app.reference.subscribers(number);
            let ids = subscribers
                .iter()
                .map(|client| app.clients[*client].connection.id());
            let mut ids: Vec<_> = ids.map(|id| id.to_string()).collect();
            ids.sort();
            let space = app.spaces[space(number)].clone();
            asked.push((
                ids,
                Box::pin(async move { space.presence(&channel(&name(number)), 1000).await }),
            ));
        }
        for (ids, mut presence) in asked {
            let mut present = presence.as_mut().now_or_never();
            while present.is_none() {
                self.turn_all();
                present = presence.as_mut().now_or_never();
            }
            assert_eq!(present.unwrap(), ids);
        }
    }

    /// All clients leave and all events grow old: nothing is left.
    pub fn end(mut self) {
        for app in &mut self.apps {
            for client in &mut app.clients {
                client.left = true;
                client.wire.leave();
            }
        }
        let is_left = |app: &App| app.clients.iter().any(|client| !client.told);
        let give_up = Instant::now() + PATIENCE;
        while self.apps.iter().any(is_left)
            || self.workers.iter().any(|worker| worker.holds() != (0, 0))
        {
            self.turn_all();
            assert!(
                Instant::now() < give_up,
                "{:?}",
                self.workers.iter().map(Worker::holds).collect::<Vec<_>>()
            );
        }
        assert_eq!(self.engine.leftovers(), Vec::<String>::new());
        assert_eq!(self.seats.available_permits(), SEATS);
        self.apps.iter_mut().for_each(App::end);
    }
}
