//! What only several processes can show: one that is killed, one that comes second, and one whose disk is full.

use std::{
    collections::HashMap,
    env,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use fanfare::broker::durable::{Store, Sync};
use fanfare_tests::account::Account;

use super::{ALL, CHANNELS, Folder};
use crate::{
    kit::{Kit, RETENTION, TIMEOUT},
    nodes::{Heard, Node, name, run},
};

/// The test that another process runs: there it does what [`publish_for_ever`] does.
const TEST: &str = "durable::process::another_process_is_refused";
/// Where that process finds its file, and what it is to do.
const FILE: &str = "FANFARE_DURABLE_FILE";
const SYNC: &str = "FANFARE_DURABLE_SYNC";
const LIMIT: &str = "FANFARE_DURABLE_LIMIT";

/// What another process does, until it is killed or, where there is a limit, until nothing is accepted. It says each event
/// that was accepted.
fn publish_for_ever(file: PathBuf) {
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
        let store = Store::new(file, ALL, sync, TIMEOUT);
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

/// Another process.
struct Other(Child);

impl Other {
    fn start(file: &Path, sync: Sync) -> Self {
        Self::run(Command::new(env::current_exe().unwrap()), file, sync)
    }

    /// One that may write no larger files, in units of 512 or 1024 bytes, whichever its shell takes.
    fn limited(file: &Path, units: u64) -> Self {
        let mut command = Command::new("sh");
        let script = r#"trap "" XFSZ; ulimit -f "$1"; shift; exec "$@""#;
        command.args(["-c", script, "sh", &units.to_string()]);
        command.arg(env::current_exe().unwrap()).env(LIMIT, "1");
        Self::run(command, file, Sync::Process)
    }

    fn run(mut command: Command, file: &Path, sync: Sync) -> Self {
        let sync = match sync {
            Sync::Process => "process",
            Sync::Power => "power",
        };
        command
            .args(["--exact", TEST, "--nocapture"])
            .env(FILE, file)
            .env(SYNC, sync)
            // What it leaves when it is killed goes with the folder of the test.
            .env("TMPDIR", file.parent().unwrap())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        Self(command.spawn().unwrap())
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
        self.0.wait().unwrap();
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

fn a_process_that_is_killed_loses_nothing_that_it_accepted(sync: Sync, fault: &'static str) {
    run(async move {
        let kit = Folder::with(sync);
        let mut said: Vec<(String, String)> = Vec::new();
        let mut slowest = Duration::ZERO;
        for round in 1..=4 {
            let mut other = Other::start(&kit.file("log"), sync);
            // Somewhere in a transaction.
            let events = 200 * round + rand_below(400);
            let pause = Duration::from_micros(rand_below(3000) as u64);
            let mut killed = false;
            let before = said.len();
            for line in other.said() {
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

            let killed = Instant::now();
            let node = Node::with(&kit, "log", ALL).await;
            slowest = slowest.max(killed.elapsed());
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
        // As was seen above, each of them is there once.
        let account = Account {
            accepted: said.len(),
            delivered: said.len(),
            ..Account::default()
        };
        account.report(Folder::NAME, fault, slowest);
    });
}

/// A number below this one, another one each time.
fn rand_below(limit: usize) -> usize {
    use std::hash::{BuildHasher, RandomState};
    (RandomState::new().hash_one(0) % limit as u64) as usize
}

mod faults {
    use super::*;

    #[test]
    fn a_process_that_is_killed_loses_nothing() {
        a_process_that_is_killed_loses_nothing_that_it_accepted(Sync::Process, "killed");
    }

    #[test]
    fn a_process_that_is_killed_loses_nothing_that_is_on_the_disk() {
        a_process_that_is_killed_loses_nothing_that_it_accepted(Sync::Power, "killed-power");
    }
}

#[test]
fn another_process_is_refused() {
    if let Some(file) = env::var_os(FILE) {
        return publish_for_ever(file.into());
    }
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
            assert!(kept[channel] == said[channel], "{channel}");
        }
        node.publish("x", "more").await.unwrap();
    });
}
