//! How nodes do over a log, shown on one in memory.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::{
    super::{BrokerError, LEASE, Presence, Told},
    message::{Message, Name, Says},
    *,
};
use crate::hub::{channel::ChannelName, connection::ConnectionId, membership::Change};

/// No answer takes longer, and what never comes is not waited for for longer.
const TIMEOUT: Duration = Duration::from_millis(500);

/// A log in memory.
#[derive(Default)]
struct Memory(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    messages: Vec<Bytes>,
    readers: Vec<Weak<Replica>>,
    /// What is written is lost.
    is_deaf: bool,
    /// What is written is kept, and whoever wrote it hears nothing of it.
    is_silent: bool,
    largest: usize,
}

struct Writing(Arc<Memory>);

struct Node {
    replica: Arc<Replica>,
    members: Members,
}

impl Memory {
    fn new() -> Arc<Self> {
        let memory = Arc::<Self>::default();
        memory.0.lock().largest = 1 << 20;
        memory
    }

    /// A node that has read what is kept.
    fn node(self: &Arc<Self>) -> Node {
        let replica = Arc::new(Replica::new("the log".into()));
        self.begin(&replica);
        self.0.lock().readers.push(Arc::downgrade(&replica));
        Node {
            members: Members::new(Box::new(Writing(self.clone())), replica.clone()),
            replica,
        }
    }

    /// A node that others know.
    async fn known(self: &Arc<Self>) -> Node {
        let node = self.node();
        assert!(renewed(&node).await.forgotten);
        assert_eq!(renewed(&node).await, Told::default());
        node
    }

    fn begin(&self, replica: &Replica) {
        for message in &self.0.lock().messages {
            replica.read(message);
        }
        replica.caught_up();
    }

    fn write(&self, message: Bytes) {
        let mut kept = self.0.lock();
        kept.messages.push(message.clone());
        for reader in kept.readers.iter().filter_map(Weak::upgrade) {
            reader.read(&message);
        }
    }

    /// Only the last of it is kept.
    fn forget(&self, last: usize) {
        let mut kept = self.0.lock();
        let forgotten = kept.messages.len() - last;
        kept.messages.drain(..forgotten);
    }
}

#[async_trait]
impl PresenceLog for Writing {
    async fn append(&self, message: Bytes) -> Result<(), BrokerError> {
        let (is_deaf, is_silent) = {
            let kept = self.0.0.lock();
            (kept.is_deaf, kept.is_silent)
        };
        if !is_deaf {
            self.0.write(message);
        }
        match is_silent {
            true => Err(BrokerError::Unavailable("nobody knows".into())),
            false => Ok(()),
        }
    }

    fn largest(&self) -> usize {
        self.0.0.lock().largest
    }

    fn timeout(&self) -> Duration {
        TIMEOUT
    }
}

fn name(channel: &str) -> ChannelName {
    ChannelName::new(channel).unwrap()
}

fn change(channel: &str, connection: u64, joined: bool) -> Change {
    let connection = format!("f{connection:031x}");
    Change {
        channel: name(channel),
        connection: ConnectionId::parse(&connection).unwrap(),
        joined,
    }
}

async fn renewed(node: &Node) -> Told {
    let told = node.members.renew().await.unwrap();
    assert_eq!(told.failed, None);
    told
}

/// The channels that became occupied or vacated.
async fn told(node: &Node, changes: &[Change]) -> Vec<(ChannelName, bool)> {
    let told = node.members.tell(changes).await.unwrap();
    assert_eq!((told.forgotten, told.failed), (false, None));
    told.occupancy
}

async fn others(node: &Node, channel: &str) -> u64 {
    node.members.others(&name(channel)).await.unwrap()
}

fn own_name(node: &Node) -> Name {
    node.replica.look(|state| state.name).unwrap()
}

#[tokio::test]
async fn what_turns_is_told_to_the_node_that_turned_it() {
    let log = Memory::new();
    let (a, b) = (log.known().await, log.known().await);
    assert_eq!(told(&a, &[change("x", 1, true)]).await, [(name("x"), true)]);
    assert_eq!(told(&b, &[change("x", 2, true)]).await, []);
    assert_eq!((others(&a, "x").await, others(&b, "x").await), (1, 1));
    let members = b.members.other_members(&name("x"), 10).await.unwrap();
    assert_eq!(members, [change("x", 1, true).connection.to_string()]);
    assert_eq!(
        b.members.other_members(&name("x"), 0).await.unwrap().len(),
        0
    );
    assert_eq!(told(&a, &[change("x", 1, false)]).await, []);
    assert_eq!(
        told(&b, &[change("x", 2, false)]).await,
        [(name("x"), false)]
    );
    assert_eq!((others(&a, "x").await, others(&b, "x").await), (0, 0));
    // One that comes later knows all the same.
    told(&a, &[change("y", 1, true)]).await;
    let late = log.known().await;
    assert_eq!(others(&late, "y").await, 1);
    assert_eq!(told(&late, &[change("y", 3, true)]).await, []);
}

#[tokio::test]
async fn before_it_said_that_it_lives_nothing_is_taken_of_a_node() {
    let log = Memory::new();
    let node = log.node();
    let told = node.members.tell(&[change("x", 1, true)]).await.unwrap();
    assert!(told.forgotten);
    assert!(log.0.lock().messages.is_empty());
    assert_eq!(others(&node, "x").await, 0);
}

#[tokio::test]
async fn whoever_was_written_off_takes_a_new_name_and_tells_all_anew() {
    let log = Memory::new();
    let (a, b) = (log.known().await, log.known().await);
    told(&a, &[change("x", 1, true)]).await;
    told(&b, &[change("y", 2, true)]).await;
    let before = own_name(&a);
    let dead = Message {
        from: own_name(&b),
        number: 4,
        says: Says::Dead(before),
    };
    log.write(dead.encode().into());
    assert_eq!(others(&b, "x").await, 0);
    // Whoever wrote it is told of what it vacated.
    assert_eq!(renewed(&b).await.occupancy, [(name("x"), false)]);
    assert!(
        a.members
            .tell(&[change("z", 1, true)])
            .await
            .unwrap()
            .forgotten
    );
    assert!(renewed(&a).await.forgotten);
    assert!(!renewed(&a).await.forgotten);
    assert_ne!(own_name(&a), before);
    assert_eq!(told(&a, &[change("x", 1, true)]).await, [(name("x"), true)]);
    assert_eq!(others(&b, "x").await, 1);
    assert_eq!(others(&a, "x").await, 0);
}

#[tokio::test]
async fn what_was_given_up_on_is_told_later_and_once() {
    let log = Memory::new();
    let (a, b) = (log.known().await, log.known().await);
    // It was written, and nobody said so.
    log.0.lock().is_silent = true;
    let lost = a.members.tell(&[change("x", 1, true)]).await.unwrap();
    assert!(lost.failed.is_some());
    assert_eq!(others(&b, "x").await, 1);
    let first = lost.occupancy;
    log.0.lock().is_silent = false;
    let again = told(&a, &[change("x", 1, true)]).await;
    assert_eq!([first, again].concat(), [(name("x"), true)]);
    // It was not written at all.
    log.0.lock().is_deaf = true;
    let lost = a.members.tell(&[change("x", 1, false)]).await.unwrap();
    let late = lost.failed.unwrap().to_string();
    assert!(
        late.contains("the log") && lost.occupancy.is_empty(),
        "{late}"
    );
    assert_eq!(others(&b, "x").await, 1);
    log.0.lock().is_deaf = false;
    assert_eq!(renewed(&a).await.occupancy, [(name("x"), false)]);
    assert_eq!(others(&b, "x").await, 0);
    assert_eq!(told(&a, &[change("x", 1, false)]).await, []);
}

#[tokio::test]
async fn a_log_that_is_lost_is_told_anew() {
    let log = Memory::new();
    log.0.lock().largest = 4096;
    let (a, b) = (log.known().await, log.known().await);
    let many: Vec<_> = (0..500).map(|number| change("x", number, true)).collect();
    told(&a, &many).await;
    told(&b, &[change("x", 1000, true)]).await;
    log.forget(0);
    for node in [&a, &b] {
        node.replica.broke(&"it is gone");
        log.begin(&node.replica);
    }
    // Nobody has forgotten anything, and nothing turned.
    assert_eq!(others(&b, "x").await, 500);
    // One that comes now knows nothing of them, and says so, until they have told all.
    let late = log.known().await;
    assert_eq!(others(&late, "x").await, 0);
    renewed(&b).await;
    assert_eq!(others(&late, "x").await, 1);
    told(&a, &[change("x", 7, false)]).await;
    let error = late.members.others(&name("x")).await.unwrap_err();
    assert!(error.to_string().contains("not told all"), "{error}");
    let refused = late.members.tell(&[change("x", 2000, true)]).await.unwrap();
    assert!(refused.failed.is_some());
    // All of it at once, unless that takes longer than may be.
    loop {
        let begun = std::time::Instant::now();
        assert_eq!(renewed(&a).await.occupancy, []);
        if late.replica.look(|state| state.roster.is_whole()) {
            break;
        }
        assert!(begun.elapsed() >= TIMEOUT / 4, "only a part was told");
    }
    assert_eq!(others(&late, "x").await, 500);
    assert_eq!(told(&late, &[change("x", 2000, true)]).await, []);
    assert_eq!(others(&b, "x").await, 500);
    let messages = log.0.lock().messages.len();
    assert!(messages > 5, "it was told in {messages} parts");
    // The next time there is nothing to tell.
    renewed(&a).await;
    assert_eq!(log.0.lock().messages.len(), messages + 1);
}

#[tokio::test]
async fn a_log_that_has_little_of_a_node_is_told_all_of_it() {
    let log = Memory::new();
    let a = log.known().await;
    told(&a, &[change("x", 1, true)]).await;
    // It is made anew, and something is written there before the node notices.
    log.forget(0);
    renewed(&a).await;
    a.replica.broke(&"it is another one");
    log.begin(&a.replica);
    let late = log.node();
    assert!(late.members.others(&name("x")).await.is_err());
    renewed(&a).await;
    assert_eq!(others(&late, "x").await, 1);
    // All of it is there now.
    let messages = log.0.lock().messages.len();
    a.replica.broke(&"for a moment");
    log.begin(&a.replica);
    renewed(&a).await;
    let last = log.0.lock().messages[messages..].to_vec();
    let last: Vec<_> = last
        .iter()
        .map(|last| Message::decode(last).unwrap().says)
        .collect();
    assert_eq!(last, [Says::Lives]);
}

#[tokio::test]
async fn whatever_was_read_before_changes_nothing_when_it_is_read_again() {
    let log = Memory::new();
    let (a, b) = (log.known().await, log.known().await);
    told(&a, &[change("x", 1, true)]).await;
    told(&a, &[change("x", 1, false), change("y", 1, true)]).await;
    told(&b, &[change("y", 2, true)]).await;
    log.write(Bytes::from_static(b"1 of somebody else"));
    for node in [&a, &b] {
        node.replica.broke(&"for a moment");
        let error = node.members.renew().await.unwrap().failed.unwrap();
        assert!(error.to_string().contains("for a moment"), "{error}");
        log.begin(&node.replica);
        assert_eq!(renewed(node).await, Told::default());
        assert_eq!((others(node, "x").await, others(node, "y").await), (0, 1));
    }
}

#[tokio::test]
async fn where_the_log_cannot_be_read_that_is_said_and_not_waited_for_again() {
    let replica = Arc::new(Replica::new("the log".into()));
    let members = Members::new(Box::new(Writing(Memory::new())), replica.clone());
    let error = members.others(&name("x")).await.unwrap_err();
    assert!(error.to_string().contains("still being read"), "{error}");
    replica.broke(&"it is not allowed");
    tokio::time::sleep(TIMEOUT).await;
    let begun = std::time::Instant::now();
    for _ in 0..100 {
        let error = members.others(&name("x")).await.unwrap_err();
        assert!(error.to_string().contains("it is not allowed"), "{error}");
        assert!(
            members
                .tell(&[change("x", 1, true)])
                .await
                .unwrap()
                .forgotten
        );
        assert!(members.renew().await.unwrap().failed.is_some());
    }
    assert!(begun.elapsed() < 20 * TIMEOUT, "{:?}", begun.elapsed());
}

/// The real lease, of a node that stops: whoever reads what it wrote before does not take it for dead before.
#[tokio::test]
async fn a_node_that_is_silent_is_written_off_once() {
    let log = Memory::new();
    let (a, b, c) = (log.known().await, log.known().await, log.known().await);
    let silent = std::time::Instant::now();
    told(&c, &[change("x", 1, true)]).await;
    told(&a, &[change("y", 2, true)]).await;
    let mut turned = Vec::new();
    while others(&a, "x").await > 0 {
        for node in [&a, &b] {
            turned.extend(renewed(node).await.occupancy);
        }
        assert!(silent.elapsed() < 3 * LEASE);
        tokio::time::sleep(LEASE / 20).await;
    }
    assert!(silent.elapsed() >= LEASE, "{:?}", silent.elapsed());
    turned.extend(renewed(&b).await.occupancy);
    assert_eq!(turned, [(name("x"), false)]);
    assert_eq!(others(&b, "y").await, 1);
    assert!(renewed(&c).await.forgotten);
}

/// While the log stands still nobody can say that it lives.
#[tokio::test]
async fn a_log_that_stood_still_is_no_reason_to_write_anybody_off() {
    let log = Memory::new();
    let (a, b) = (log.known().await, log.known().await);
    told(&b, &[change("x", 1, true)]).await;
    log.0.lock().is_deaf = true;
    let begun = std::time::Instant::now();
    while begun.elapsed() < LEASE + LEASE / 10 {
        assert!(a.members.renew().await.unwrap().failed.is_some());
    }
    let error = a.members.others(&name("x")).await.unwrap_err();
    assert!(error.to_string().contains("could be written"), "{error}");
    log.0.lock().is_deaf = false;
    assert_eq!(renewed(&a).await, Told::default());
    assert_eq!(others(&a, "x").await, 1);
    assert_eq!(renewed(&b).await, Told::default());
}
