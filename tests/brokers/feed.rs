//! What a node does with a push that breaks, over a broker that does as it is told: what no real one can be made to do at
//! the right moment.

use std::{
    collections::VecDeque,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use fanfare::{
    broker::{Accepted, Broker, BrokerError, Page, Presence, Pushed, Told, feed::Sink},
    event::{Event, IdForm},
    hub::{carried::Placed, channel::ChannelName, membership::Change},
};
use fanfare_tests::wait::PATIENCE;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    kit::RETENTION,
    nodes::{Heard, Node, numbers, run},
};

/// A log in memory. It says how far the push is only where it is asked.
#[derive(Default)]
struct Log {
    events: Mutex<Vec<(ChannelName, Placed)>>,
    sink: OnceLock<Sink>,
    /// Nothing is pushed.
    is_cut: AtomicBool,
    /// Nothing is read.
    is_slow: watch::Sender<bool>,
    others: Others,
}

/// Other nodes, who hear nothing.
#[derive(Default)]
struct Others {
    /// What they say next when this node says that it lives; after that, that they know.
    say: Mutex<VecDeque<Result<Told, BrokerError>>>,
    told: Mutex<Vec<Change>>,
}

struct Fake(Arc<Log>);

impl Log {
    fn sink(&self) -> &Sink {
        self.sink.get().expect("it was started")
    }

    /// Loses what is pushed from now on.
    fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
        self.sink().broke();
    }

    /// Pushes again.
    fn mend(&self) {
        self.is_cut.store(false, Ordering::SeqCst);
        self.sink().back();
    }
}

#[async_trait]
impl Broker for Fake {
    async fn start(&self, sink: Sink) -> Result<(), BrokerError> {
        let _ = self.0.sink.set(sink);
        Ok(())
    }

    async fn publish(&self, channel: &ChannelName, event: &Event) -> Result<Accepted, BrokerError> {
        let mut events = self.0.events.lock();
        let position = events.len() as u64 + 1;
        let id = format!("f-{position}");
        let placed = Placed {
            position,
            event: event.clone().with_id(id.clone(), IdForm::Plain).unwrap(),
            own_id: false,
            age: Duration::ZERO,
        };
        let before = events.iter().rev().find(|(known, _)| known == channel);
        let previous = before.map_or(0, |(_, placed)| placed.position);
        events.push((channel.clone(), placed.clone()));
        if !self.0.is_cut.load(Ordering::SeqCst) {
            let pushed = Pushed {
                position,
                previous: Some(previous),
                placed: Some(placed),
            };
            self.0.sink().pushed(channel, pushed);
        }
        Ok(Accepted {
            id,
            position,
            duplicate: false,
        })
    }

    async fn subscribe(&self, _: &ChannelName) -> Result<u64, BrokerError> {
        Ok(self.0.events.lock().len() as u64)
    }

    fn unsubscribe(&self, _: &ChannelName) {}

    async fn sync(&self) -> Result<u64, BrokerError> {
        let newest = self.0.events.lock().len() as u64;
        self.0.sink().complete(newest);
        Ok(newest)
    }

    async fn read(
        &self,
        channel: &ChannelName,
        after: u64,
        limit: usize,
    ) -> Result<Page, BrokerError> {
        let mut is_slow = self.0.is_slow.subscribe();
        let _ = is_slow.wait_for(|slow| !*slow).await;
        let events = self.0.events.lock();
        let own = events.iter().filter(|(known, _)| known == channel);
        let mut found: Vec<_> = own
            .map(|(_, placed)| placed.clone())
            .filter(|placed| placed.position > after)
            .collect();
        let more = found.len() > limit;
        found.truncate(limit);
        let through = match found.last() {
            Some(last) if more => last.position,
            _ => events.len() as u64,
        };
        Ok(Page {
            events: found,
            missing: 0,
            through,
            more,
        })
    }

    fn presence(&self) -> Option<&dyn Presence> {
        Some(&self.0.others)
    }

    async fn place(&self, _: &ChannelName, id: &str) -> Result<Option<u64>, BrokerError> {
        Ok(id
            .strip_prefix("f-")
            .and_then(|position| position.parse().ok()))
    }
}

#[async_trait]
impl Presence for Others {
    async fn renew(&self) -> Result<Told, BrokerError> {
        let say = self.say.lock().pop_front();
        say.unwrap_or_else(|| Ok(Told::default()))
    }

    async fn tell(&self, changes: &[Change]) -> Result<Told, BrokerError> {
        self.told.lock().extend_from_slice(changes);
        Ok(Told::default())
    }

    async fn others(&self, _: &ChannelName) -> Result<u64, BrokerError> {
        Ok(0)
    }

    async fn other_members(&self, _: &ChannelName, _: usize) -> Result<Vec<String>, BrokerError> {
        Ok(Vec::new())
    }
}

/// A node, and what its broker does.
async fn node() -> (Node, Arc<Log>) {
    let log = Arc::<Log>::default();
    let node = Node::over(Box::new(Fake(log.clone())), RETENTION);
    node.feed.start().await.unwrap();
    (node, log)
}

#[test]
fn what_was_missed_on_several_channels_comes_in_one_order() {
    run(async {
        let (node, log) = node().await;
        let mut client = node.client(None, &["x", "y"]).await;
        log.cut();
        // More than is read at a time, on one of them only.
        for number in 0..1400 {
            let channel = if number % 7 == 0 { "y" } else { "x" };
            node.publish(channel, &number.to_string()).await.unwrap();
        }
        log.mend();
        node.publish("y", "1400").await.unwrap();
        assert_eq!(client.data(1401).await, numbers(0..1401));
    });
}

#[test]
fn a_client_that_comes_back_meanwhile_hears_nothing_twice() {
    run(async {
        let (node, log) = node().await;
        let node = Arc::new(node);
        let mut stays = node.client(None, &["x"]).await;
        log.cut();
        let ids = node.publish_numbers("x", 0..10).await;
        log.is_slow.send_replace(true);
        log.mend();
        // It has heard half of it elsewhere, and the push is complete up to there.
        log.sink().complete(10);
        let comes = {
            let (node, last) = (node.clone(), ids[4].clone());
            tokio::spawn(async move { node.client(Some(&last), &["x"]).await })
        };
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!comes.is_finished(), "nobody knows yet what it missed");
        log.is_slow.send_replace(false);
        let mut comes = comes.await.unwrap();
        node.publish("x", "end").await.unwrap();
        assert_eq!(stays.data(10).await, numbers(0..10));
        let heard = comes.until("end").await;
        let data: Vec<_> = heard
            .iter()
            .map(|heard| match heard {
                Heard::Event(_, data) => data.as_str(),
                Heard::Gap(_) => "a gap",
            })
            .collect();
        assert_eq!(data, numbers(5..10));
    });
}

#[test]
fn one_event_that_was_not_pushed_is_read() {
    run(async {
        let (node, log) = node().await;
        let mut client = node.client(None, &["x", "y"]).await;
        node.publish("x", "0").await.unwrap();
        // Without a word.
        log.is_cut.store(true, Ordering::SeqCst);
        node.publish("x", "1").await.unwrap();
        log.is_cut.store(false, Ordering::SeqCst);
        node.publish("y", "2").await.unwrap();
        node.publish("x", "3").await.unwrap();
        let mut heard = client.data(4).await;
        // Nobody could know before the event after it.
        heard.sort();
        assert_eq!(heard, numbers(0..4));
    });
}

#[test]
fn a_broker_that_does_not_answer_makes_nobody_wait_for_ever() {
    run(async {
        let (node, log) = node().await;
        let _stays = node.client(None, &["x"]).await;
        let last = node.publish("x", "0").await.unwrap().id;
        log.cut();
        let begun = std::time::Instant::now();
        // It is accepted, and is delivered when the push is back.
        assert_eq!(node.publish("x", "1").await.unwrap().delivered, 0);
        let options = fanfare::hub::connection::OpenOptions {
            last_event_id: Some(last),
            ..Default::default()
        };
        let (connection, _delivery) = node.hub.open(options).unwrap();
        let registered = node
            .feed
            .register(&connection, &crate::nodes::name("x"))
            .await;
        assert!(
            matches!(registered, Err(BrokerError::Unavailable(_))),
            "{registered:?}"
        );
        assert!(begun.elapsed() < Duration::from_secs(10));
    });
}

#[test]
fn others_who_forgot_this_node_are_told_all_also_if_it_cannot_say_at_once_that_it_lives() {
    run(async {
        let (node, log) = node().await;
        let client = node.client(None, &["x"]).await;
        let until_told = async |count: usize| {
            let begun = Instant::now();
            loop {
                let told = log.others.told.lock().clone();
                if told.len() == count {
                    return told;
                }
                assert!(begun.elapsed() < PATIENCE, "{told:?}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        until_told(1).await;
        log.others.say.lock().extend([
            Ok(Told {
                forgotten: true,
                ..Told::default()
            }),
            Err(BrokerError::Unavailable("for a moment".into())),
        ]);
        for told in until_told(2).await {
            assert_eq!(told.connection, client.connection.id());
            assert!(told.joined);
        }
    });
}
