//! A file, which the nodes of a test share as the publishers of one process may. What only several processes can show is
//! shown with processes that are killed.

use std::{
    collections::HashMap,
    env, fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
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
    nodes::{Client, Heard, Node, name, numbers, run},
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
}

crate::suite::tests!(Folder);
// One that is killed is shown below, with a process.
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

/// Where a process of [`of_another_process`] finds its file, and what it is to do.
const FILE: &str = "FANFARE_DURABLE_FILE";
const SYNC: &str = "FANFARE_DURABLE_SYNC";
const LIMIT: &str = "FANFARE_DURABLE_LIMIT";

/// Not a test: what another process runs, until it is killed or, where there is a limit, until nothing is accepted. It says
/// each event that was accepted.
#[test]
#[ignore = "run by other tests, as a process of its own"]
fn of_another_process() {
    let Some(file) = env::var_os(FILE) else {
        return;
    };
    let sync = match env::var(SYNC).as_deref() {
        Ok("power") => Sync::Power,
        _ => Sync::Process,
    };
    let (data, tasks) = match env::var_os(LIMIT) {
        Some(_) => ("x".repeat(5000), 1),
        None => (String::new(), 8),
    };
    run(async move {
        let kit = Folder::with(sync);
        let store = Store::new(file.into(), ALL, sync, TIMEOUT);
        kit.stores.lock().unwrap().insert("log".into(), store);
        let node = match Node::new(&kit, "log", ALL) {
            node if node.feed.start().await.is_ok() => Arc::new(node),
            _ => return say("refused"),
        };
        let mut publishing = Vec::new();
        for task in 0..tasks {
            let (node, data) = (node.clone(), data.clone());
            publishing.push(tokio::spawn(async move {
                for number in 0.. {
                    let channel = CHANNELS[number % CHANNELS.len()];
                    // Some have an id of their own.
                    let published = match number % 2 {
                        0 => node.publish(channel, &format!("{number}{data}")).await,
                        _ => {
                            let id = format!("{}-{task}-{number}", std::process::id());
                            node.publish_own(channel, &id).await
                        }
                    };
                    match published {
                        Ok(published) => say(&format!("{channel} {}", published.id)),
                        Err(error) => return say(&format!("error {error}")),
                    }
                }
            }));
        }
        for task in publishing {
            task.await.unwrap();
        }
        // It goes on to read.
        let history = node.feed.history(&name("x"), 10).await.unwrap();
        say(&format!("read {}", history.len()));
    });
}

/// Says something in one piece, to whoever started this process.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // The one who listens kills this process anyway.
    let _ = out.write_all(format!("\nsaid {line}\n").as_bytes());
    let _ = out.flush();
}

struct Other(Child);

impl Other {
    fn start(file: &Path, sync: Sync) -> Self {
        Self(Self::command(file, sync).spawn().unwrap())
    }

    fn command(file: &Path, sync: Sync) -> Command {
        let mut command = Command::new(env::current_exe().unwrap());
        Self::prepare(&mut command, file, sync);
        command
    }

    /// One that may write no larger files, in units of 512 or 1024 bytes, whichever its shell takes.
    fn limited(file: &Path, units: u64) -> Self {
        let mut command = Command::new("sh");
        let script = r#"trap "" XFSZ; ulimit -f "$1"; shift; exec "$@""#;
        command.args(["-c", script, "sh", &units.to_string()]);
        command.arg(env::current_exe().unwrap()).env(LIMIT, "1");
        Self::prepare(&mut command, file, Sync::Process);
        Self(command.spawn().unwrap())
    }

    fn prepare(command: &mut Command, file: &Path, sync: Sync) {
        let sync = if sync == Sync::Power {
            "power"
        } else {
            "process"
        };
        command
            .args([
                "--exact",
                "durable::of_another_process",
                "--ignored",
                "--nocapture",
            ])
            .env(FILE, file)
            .env(SYNC, sync)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
    }

    /// What it says, as soon as it says it. What it was killed in the middle of is no line.
    fn said(&mut self) -> impl Iterator<Item = String> + use<> {
        let mut out = BufReader::new(self.0.stdout.take().unwrap());
        std::iter::from_fn(move || {
            loop {
                let mut line = String::new();
                if out.read_line(&mut line).unwrap() == 0 {
                    return None;
                }
                if let Some(said) = line.strip_prefix("said ")
                    && let Some(said) = said.strip_suffix('\n')
                {
                    return Some(said.to_owned());
                }
            }
        })
    }

    /// Ends it as nobody can prevent.
    fn kill(&mut self) {
        self.0.kill().unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// All that is kept of each channel, as ids in their order.
async fn kept(node: &Node) -> HashMap<&'static str, Vec<String>> {
    let mut kept = HashMap::new();
    for channel in CHANNELS {
        let history = node.feed.history(&name(channel), usize::MAX).await.unwrap();
        let ids = history.iter().map(|event| event.id().unwrap().to_owned());
        kept.insert(channel, ids.collect());
    }
    kept
}

fn a_process_that_is_killed_loses_nothing_that_it_accepted(sync: Sync) {
    run(async move {
        let kit = Folder::with(sync);
        let mut said: Vec<(String, String)> = Vec::new();
        for round in 1..=4 {
            let mut other = Other::start(&kit.file("log"), sync);
            let mut lines = other.said();
            // Somewhere in a transaction.
            let events = 200 * round + rand_below(400);
            let pause = Duration::from_micros(rand_below(3000) as u64);
            let mut killed = false;
            let before = said.len();
            while let Some(line) = lines.next() {
                let (channel, id) = line.split_once(' ').unwrap_or_else(|| panic!("{line}"));
                assert!(CHANNELS.contains(&channel), "{line}");
                said.push((channel.into(), id.into()));
                if said.len() - before >= events && !std::mem::replace(&mut killed, true) {
                    std::thread::sleep(pause);
                    other.kill();
                }
            }
            assert!(killed, "it ended by itself");
            drop(other);

            let node = Node::with(&kit, "log", ALL).await;
            let kept = kept(&node).await;
            let mut places = HashMap::new();
            for (channel, ids) in &kept {
                for (place, id) in ids.iter().enumerate() {
                    let known = places.insert((*channel, id.as_str()), place);
                    assert_eq!(known, None, "{channel} {id} is there twice");
                }
            }
            for (channel, id) in &said {
                let place = places.get(&(channel.as_str(), id.as_str()));
                assert!(place.is_some(), "{channel} {id} is lost");
            }
            // A client that heard only the first one goes on from there.
            let (first_channel, first) = &said[0];
            let mut client = node.client(Some(first), &CHANNELS).await;
            for channel in CHANNELS {
                node.publish(channel, "end").await.unwrap();
            }
            let mut heard: HashMap<&str, Vec<String>> = HashMap::new();
            let mut ends = 0;
            let channel_of: HashMap<&str, &str> =
                places.keys().map(|(channel, id)| (*id, *channel)).collect();
            while ends < CHANNELS.len() {
                match client.next().await {
                    Heard::Event(id, data) if data == "end" && !channel_of.contains_key(&*id) => {
                        ends += 1;
                    }
                    Heard::Event(id, _) => heard.entry(channel_of[&*id]).or_default().push(id),
                    gap => panic!("{gap:?}"),
                }
            }
            // Events of all channels are in one order, so what was before the first is the same on each.
            let all =
                |heard: &HashMap<&str, Vec<String>>| heard.values().map(Vec::len).sum::<usize>();
            let skipped = all(&kept) - all(&heard);
            assert!(
                skipped <= 8,
                "{skipped} were before the first that was said"
            );
            for channel in CHANNELS {
                assert!(kept[channel].ends_with(&heard[channel]), "{channel}");
            }
            assert!(!heard[&**first_channel].contains(first));
            println!("{} were said, {} are kept", said.len(), all(&kept));
            // The next process is to have it.
            drop((client, node));
        }
    });
}

/// A number below this one, another one each time.
fn rand_below(limit: usize) -> usize {
    use std::hash::{BuildHasher, RandomState};
    (RandomState::new().hash_one(0) % limit as u64) as usize
}

#[test]
fn a_process_that_is_killed_loses_nothing() {
    a_process_that_is_killed_loses_nothing_that_it_accepted(Sync::Process);
}

#[test]
fn a_process_that_is_killed_loses_nothing_that_is_on_the_disk() {
    a_process_that_is_killed_loses_nothing_that_it_accepted(Sync::Power);
}

#[test]
fn another_process_is_refused() {
    run(async {
        let kit = Folder::start();
        let mut other = Other::start(&kit.file("log"), Sync::Process);
        let mut lines = other.said();
        assert!(lines.next().unwrap().starts_with('x'));
        let node = Node::new(&kit, "log", RETENTION);
        let error = node.feed.start().await.unwrap_err().to_string();
        assert!(error.contains("another node"), "{error}");
        assert!(error.contains(kit.file("log").to_str().unwrap()), "{error}");
        other.kill();
        node.feed.start().await.unwrap();
        let mut late = Other::start(&kit.file("log"), Sync::Process);
        assert_eq!(late.said().next().as_deref(), Some("refused"));
    });
}

#[test]
fn a_disk_that_takes_no_more_is_unavailable_and_keeps_nothing_half() {
    run(async {
        let kit = Folder::start();
        let mut other = Other::limited(&kit.file("log"), 40_000);
        let mut said: HashMap<String, Vec<String>> = HashMap::new();
        let (mut error, mut read) = (None, None);
        for line in other.said() {
            match line.split_once(' ').unwrap() {
                ("error", text) => error = Some(text.to_owned()),
                ("read", count) => read = Some(count.to_owned()),
                (channel, id) => said.entry(channel.into()).or_default().push(id.into()),
            }
        }
        let error = error.expect("it took everything");
        assert!(error.contains(kit.file("log").to_str().unwrap()), "{error}");
        assert_eq!(read.as_deref(), Some("10"));
        drop(other);
        let node = Node::with(&kit, "log", ALL).await;
        let kept = kept(&node).await;
        for channel in CHANNELS {
            assert!(said[channel].len() > 100);
            assert_eq!(kept[channel], said[channel], "{channel}");
        }
        node.publish("x", "more").await.unwrap();
    });
}

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
            let node = Arc::new(Node::start(&kit, "log").await);
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
        let node = Node::start(&kit, "log").await;
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
        for round in 0..12 {
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
        // Within the first rounds there is as much as is kept of a second.
        let early = sizes[..6].iter().max().unwrap();
        let late = sizes[6..].iter().max().unwrap();
        assert!(late <= &(early + early / 3), "{sizes:?}");
    });
}
