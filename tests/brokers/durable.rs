//! A file, which the nodes of a test share as the publishers of one process may. What only several processes can show is
//! shown with processes that are killed: [`process`].

mod process;

use std::{
    collections::HashMap,
    fs,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use fanfare::broker::{
    Broker, BrokerError, Retention,
    durable::{Durable, Store, Sync},
};
use fanfare_tests::wait;
use rusqlite::Connection;
use tempfile::TempDir;

use crate::{
    kit::{Kit, RETENTION, TIMEOUT},
    nodes::{Client, Heard, Node, numbers, run},
};

/// A folder with a file for each log.
struct Folder {
    folder: TempDir,
    sync: Sync,
    stores: Mutex<HashMap<String, Arc<Store>>>,
    /// What keeps the files from being used.
    held: Mutex<Vec<Connection>>,
    locked: Mutex<Option<fs::File>>,
}

impl Folder {
    fn with(sync: Sync) -> Self {
        Self {
            folder: TempDir::with_prefix("fanfare-durable-").unwrap(),
            sync,
            stores: Mutex::default(),
            held: Mutex::default(),
            locked: Mutex::default(),
        }
    }

    fn file(&self, log: &str) -> PathBuf {
        self.folder.path().join(format!("{log}.db"))
    }

    /// What the file takes, with those that belong to it.
    fn size(&self) -> u64 {
        let files = fs::read_dir(self.folder.path()).unwrap();
        // One that is gone by now takes nothing.
        let sizes = files.map(|file| file.unwrap().metadata().map_or(0, |file| file.len()));
        sizes.sum()
    }
}

impl Kit for Folder {
    const NAME: &'static str = "durable";

    fn start() -> Self {
        Self::with(Sync::Process)
    }

    fn broker(&self, log: &str, retention: Retention) -> Box<dyn Broker> {
        let mut stores = self.stores.lock().unwrap();
        let store = stores
            .entry(log.into())
            .or_insert_with(|| Store::new(self.file(log), retention, self.sync, TIMEOUT));
        Box::new(Durable::new(store.clone()))
    }

    /// Another process has the file of the log `log`.
    fn kill(&mut self) {
        let lock = fs::File::create(self.folder.path().join("log.db.lock")).unwrap();
        lock.lock().unwrap();
        *self.locked.lock().unwrap() = Some(lock);
    }

    fn restart(&mut self) {
        self.locked.lock().unwrap().take();
    }

    /// Another program writes and does not end.
    fn freeze(&self) {
        for log in self.stores.lock().unwrap().keys() {
            let other = Connection::open(self.file(log)).unwrap();
            other.busy_timeout(wait::PATIENCE).unwrap();
            other.execute_batch("BEGIN IMMEDIATE").unwrap();
            self.held.lock().unwrap().push(other);
        }
    }

    fn thaw(&self) {
        self.held.lock().unwrap().clear();
    }

    fn tells_members(&self) -> bool {
        false
    }
}

crate::suite::tests!(Folder);
crate::suite::tests!(Folder @ members:
    members_are_those_of_all_nodes
);
crate::kept::tests!(Folder);
// One that is killed is shown with a process.
crate::suite::tests!(Folder @ faults:
    a_server_that_stands_still_is_unavailable_and_loses_nothing
    starting_fails_with_a_reason_and_may_be_tried_again
    a_node_that_ends_is_no_trouble_to_others
);

const CHANNELS: [&str; 3] = ["x", "y", "z"];
/// More than any test publishes.
const ALL: Retention = Retention {
    events: 1_000_000,
    age: RETENTION.age,
};

#[test]
fn a_damaged_file_is_named_at_start() {
    run(async {
        let kit = Folder::start();
        fs::write(kit.file("log"), "no database ".repeat(1000)).unwrap();
        let node = Node::new(&kit, "log", RETENTION);
        let error = node.feed.start().await.unwrap_err();
        assert!(matches!(error, BrokerError::Unavailable(_)));
        let text = error.to_string();
        assert!(text.contains(kit.file("log").to_str().unwrap()), "{text}");
        assert!(text.contains("no SQLite database"), "{text}");
        // Once it is out of the way, all is well.
        fs::remove_file(kit.file("log")).unwrap();
        node.feed.start().await.unwrap();
        node.publish("news", "0").await.unwrap();
    });
}

#[test]
fn an_event_that_cannot_be_read_is_a_gap() {
    run(async {
        let kit = Folder::start();
        let node = Node::start(&kit, "log").await;
        let ids = node.publish_numbers("news", 0..3).await;
        let (_, position) = ids[1].split_once('-').unwrap();
        let other = Connection::open(kit.file("log")).unwrap();
        let garble = "UPDATE events SET payload = ?1 WHERE position = ?2";
        let newer = (b"2t\nnewer".as_slice(), position.parse::<i64>().unwrap());
        assert_eq!(other.execute(garble, newer).unwrap(), 1);
        // On a node that has not heard it.
        let node = Node::start(&kit, "log").await;
        let mut client = node.client(Some(&ids[0]), &["news"]).await;
        assert_eq!(client.next().await, Heard::Gap("news".into()));
        assert_eq!(client.data(1).await, ["2"]);
        let mut client = node.client(Some(&ids[1]), &["news"]).await;
        assert_eq!(client.data(1).await, ["2"]);
    });
}

/// Clients are there before, in the middle of publishing, and after; the node ends without telling anybody.
#[test]
fn clients_go_on_over_restarts() {
    const CLIENTS: usize = 3;
    const TASKS: usize = 4;
    run(async {
        let kit = Folder::start();
        let mut lasts: Vec<Option<String>> = vec![None; CLIENTS];
        let mut heard: Vec<Vec<String>> = vec![Vec::new(); CLIENTS];
        let counts: Vec<_> = (0..TASKS).map(|_| Arc::new(AtomicUsize::new(0))).collect();
        for round in 0..4 {
            let node = Arc::new(Node::with(&kit, "log", ALL).await);
            let mut listening = Vec::new();
            let stop = Arc::new(AtomicBool::new(false));
            for last in &lasts {
                let mut client: Client = node.client(last.as_deref(), &CHANNELS).await;
                let stop = stop.clone();
                listening.push(tokio::spawn(async move {
                    let mut heard = Vec::new();
                    while heard.len() < 150 && !stop.load(Ordering::Relaxed) {
                        heard.extend(client.data(1).await);
                    }
                    (heard, client.last)
                }));
            }
            let publishing = counts.iter().enumerate().map(|(task, count)| {
                let (node, count) = (node.clone(), count.clone());
                tokio::spawn(async move {
                    loop {
                        let number = count.load(Ordering::Relaxed);
                        let channel = CHANNELS[number % CHANNELS.len()];
                        // One whose answer never came is published again under its id.
                        let id = format!("{task}-{number}");
                        node.publish_own(channel, &id).await.unwrap();
                        count.store(number + 1, Ordering::Relaxed);
                    }
                })
            });
            let publishing: Vec<_> = publishing.collect();
            for (client, listening) in listening.into_iter().enumerate() {
                let (events, last) = listening.await.unwrap();
                heard[client].extend(events);
                lasts[client] = last;
            }
            for task in publishing {
                task.abort();
                assert!(task.await.unwrap_err().is_cancelled());
            }
            println!("round {round}: {counts:?}");
            drop(node);
        }
        let node = Node::with(&kit, "log", ALL).await;
        for (task, count) in counts.iter().enumerate() {
            // The last one may be there or not.
            let number = count.fetch_add(1, Ordering::Relaxed);
            let channel = CHANNELS[number % CHANNELS.len()];
            node.publish_own(channel, &format!("{task}-{number}"))
                .await
                .unwrap();
        }
        for channel in CHANNELS {
            node.publish(channel, "end").await.unwrap();
        }
        for (last, mut heard) in lasts.into_iter().zip(heard) {
            let mut client = node.client(last.as_deref(), &CHANNELS).await;
            for _ in CHANNELS {
                for event in client.until("end").await {
                    match event {
                        Heard::Event(id, _) => heard.push(id),
                        gap => panic!("{gap:?}"),
                    }
                }
            }
            for (task, count) in counts.iter().enumerate() {
                let prefix = format!("{task}-");
                let own = heard.iter().filter_map(|id| id.strip_prefix(&prefix));
                let own: Vec<_> = own.collect();
                assert_eq!(own, numbers(0..count.load(Ordering::Relaxed)));
            }
        }
    });
}

#[test]
fn the_file_stops_growing() {
    const TASKS: usize = 64;
    run(async {
        let kit = Folder::start();
        let few = Retention {
            events: 20,
            age: Duration::from_secs(1),
        };
        let node = Arc::new(Node::with(&kit, "log", few).await);
        let mut sizes = Vec::new();
        // Channels come and go, and some stay; there are ids of guests among the events.
        for round in 0..24 {
            let tasks = (0..TASKS).map(|task| {
                let node = node.clone();
                tokio::spawn(async move {
                    for number in 0..40 {
                        let channel = match number % 2 {
                            0 => format!("stays {}", task % 8),
                            _ => format!("{round} {task} {number}"),
                        };
                        let id = format!("{round} {task} {number} {}", "x".repeat(200));
                        node.publish_own(&channel, &id).await.unwrap();
                    }
                })
            });
            for task in tasks.collect::<Vec<_>>() {
                task.await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
            sizes.push(kit.size());
        }
        println!("{sizes:?}");
        // Within the first rounds there is as much as is kept of a second, which is more where the machine is quicker. If
        // nothing were let go of, it would be four times as much.
        let early = sizes[..6].iter().max().unwrap();
        let late = sizes[18..].iter().max().unwrap();
        assert!(*late <= early * 5 / 2, "{sizes:?}");
    });
}
