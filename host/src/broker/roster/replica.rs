//! The roster as this node has read it, and how far that can be trusted.

use std::{
    fmt::Display,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{sync::watch, time::timeout_at};

use super::{
    super::{BrokerError, LEASE},
    message::{Message, Name, Says},
    state::{Roster, Turns},
};

/// What this node knows of all. Whatever reads the log tells it what it reads.
pub(in crate::broker) struct Replica {
    /// What the log is called, for messages.
    log: String,
    /// This node, by whatever name.
    node: u64,
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

/// What it knows.
pub(super) struct State {
    pub(super) roster: Roster,
    /// What this node is called, unless it has said nothing yet, or was written off.
    pub(super) name: Option<Name>,
    /// How often it was.
    life: u32,
    reading: Reading,
    /// When the log was last seen to do its work: something that this node wrote was read back, or all was read.
    worked: Instant,
    /// What was read of its own since reading began.
    own: Own,
    /// Others may not know all its members.
    wants_round: bool,
    /// What its own messages did, and nobody was told of yet.
    untold: Turns,
}

/// What was read of the node's own messages.
#[derive(Default)]
struct Own {
    /// The greatest number.
    last: u64,
    /// A round began there.
    has_round: bool,
}

/// How far reading is.
enum Reading {
    /// Not at the end, since then; with the reason, if it broke.
    Behind {
        since: Instant,
        reason: Option<String>,
    },
    /// Whatever is written is read.
    Live,
}

/// What is needed of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// It is read to its end.
    Live,
    /// And all members of all nodes are known.
    Whole,
    /// And what is known is not older than a lease.
    Fresh,
}

impl Replica {
    /// Knows nothing yet. The log is called this.
    pub(in crate::broker) fn new(log: String) -> Self {
        let now = Instant::now();
        Self {
            log,
            node: rand::random(),
            state: Mutex::new(State {
                roster: Roster::default(),
                name: None,
                life: 0,
                reading: Reading::Behind {
                    since: now,
                    reason: None,
                },
                worked: now,
                own: Own::default(),
                wants_round: false,
                untold: Turns::new(),
            }),
            changed: watch::Sender::new(()),
        }
    }

    /// Something was read. What cannot be is skipped.
    pub(in crate::broker) fn read(&self, bytes: &[u8]) {
        let message = match Message::decode(bytes) {
            Ok(message) => message,
            Err(error) => {
                tracing::warn!(
                    log = self.log,
                    %error,
                    "what stands in the presence log is no message of a node and is skipped"
                );
                return;
            }
        };
        let now = Instant::now();
        {
            let mut state = self.state.lock();
            let (from, number) = (message.from, message.number);
            let own = state.name == Some(from);
            if own {
                state.own.last = state.own.last.max(number);
                state.own.has_round |= matches!(message.says, Says::Round { first: true, .. });
            }
            let Some(turns) = state.roster.apply(message, now) else {
                return;
            };
            if own && matches!(state.reading, Reading::Live) {
                // Where the log stood still, no other node could say that it lives either.
                if now.duration_since(state.worked) > LEASE / 2 {
                    state.roster.hear_all(now);
                }
                state.worked = now;
            }
            if from.node == self.node {
                state.untold.extend(turns);
            }
            if state.name.is_some_and(|name| state.roster.is_dead(name)) {
                tracing::warn!(
                    log = self.log,
                    "other nodes have not heard this one for {LEASE:?} and took it for dead; it tells them its members \
                     anew"
                );
                state.name = None;
                state.life += 1;
            }
        }
        self.changed.send_replace(());
    }

    /// All that is kept was read.
    pub(in crate::broker) fn caught_up(&self) {
        let now = Instant::now();
        {
            let mut state = self.state.lock();
            let Reading::Behind { since, reason } = &state.reading else {
                return;
            };
            if reason.is_some() {
                tracing::info!(
                    log = self.log,
                    away = ?now.duration_since(*since),
                    "the presence log is read again"
                );
            }
            state.reading = Reading::Live;
            state.worked = now;
            state.roster.hear_all(now);
            // What this node has told is not there, or not all of it: who begins to read now does not know it.
            if let Some(name) = state.name {
                let is_there = state.own.has_round && state.own.last >= state.roster.last(name);
                state.wants_round |= !is_there;
            }
        }
        self.changed.send_replace(());
    }

    /// Reading broke, or cannot begin. It begins anew then, with the oldest that is kept: what was read before is passed
    /// by.
    pub(in crate::broker) fn broke(&self, why: &dyn Display) {
        let mut state = self.state.lock();
        state.own = Own::default();
        let since = match &state.reading {
            Reading::Behind {
                since,
                reason: Some(_),
            } => {
                tracing::debug!(log = self.log, %why, "the presence log cannot be read yet");
                *since
            }
            Reading::Behind { .. } | Reading::Live => {
                tracing::warn!(
                    log = self.log,
                    %why,
                    "who hears channels at other nodes is not known until this is mended; events are carried all the same"
                );
                Instant::now()
            }
        };
        state.reading = Reading::Behind {
            since,
            reason: Some(why.to_string()),
        };
        drop(state);
        self.changed.send_replace(());
    }

    /// What is known, or is to be told, at this moment.
    pub(super) fn look<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock())
    }

    /// What the node is called; a new name if it has none.
    pub(super) fn take_name(&self) -> Name {
        let mut state = self.state.lock();
        if let Some(name) = state.name {
            return name;
        }
        let name = Name {
            node: self.node,
            life: state.life,
        };
        state.name = Some(name);
        state.own = Own::default();
        name
    }

    /// Waits until there is an answer.
    pub(super) async fn wait<T>(&self, mut look: impl FnMut(&mut State) -> Option<T>) -> T {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            if let Some(answer) = self.look(&mut look) {
                return answer;
            }
            // The sender is here.
            let _ = changed.changed().await;
        }
    }

    /// Waits until there is what is needed, but not for longer than this after reading broke, and then looks.
    pub(super) async fn with<T>(
        &self,
        need: Need,
        limit: Duration,
        mut look: impl FnMut(&State) -> T,
    ) -> Result<T, BrokerError> {
        let from = self.look(|state| match state.reading {
            Reading::Behind { since, .. } => since,
            Reading::Live => Instant::now(),
        });
        let looked = self.wait(|state| {
            let there = self.lacks(state, need).is_none();
            there.then(|| look(state))
        });
        let looked = timeout_at((from + limit).into(), looked).await;
        looked.or_else(|_| {
            self.look(|state| match self.lacks(state, need) {
                Some(reason) => Err(BrokerError::Unavailable(format!(
                    "who hears channels at other nodes is not known: {reason}"
                ))),
                None => Ok(look(state)),
            })
        })
    }

    /// Why there is not what is needed.
    fn lacks(&self, state: &State, need: Need) -> Option<String> {
        let log = &self.log;
        match &state.reading {
            Reading::Behind {
                reason: Some(reason),
                ..
            } => return Some(reason.clone()),
            Reading::Behind { reason: None, .. } => {
                return Some(format!("{log} is still being read"));
            }
            Reading::Live => {}
        }
        if need != Need::Live && !state.roster.is_whole() {
            return Some(
                "a node has not told all its members yet; each does so every minute, so try again then".into(),
            );
        }
        if need == Need::Fresh && state.worked.elapsed() > LEASE {
            return Some(format!("nothing could be written to {log} for {LEASE:?}"));
        }
        None
    }

    /// What was written is not read.
    pub(super) fn late(&self, limit: Duration) -> BrokerError {
        BrokerError::Unavailable(format!(
            "what this node wrote to {} was not read back within {limit:?}; it is written again",
            self.log
        ))
    }
}

impl State {
    /// Whether others are to be told all members of this node anew.
    pub(super) fn take_wants_round(&mut self, name: Name) -> bool {
        std::mem::take(&mut self.wants_round) || !self.roster.is_followed(name)
    }

    /// What this node's messages did since it was asked.
    pub(super) fn take_untold(&mut self) -> Turns {
        std::mem::take(&mut self.untold)
    }
}
