//! What this node says of itself, and what it knows of others.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::timeout;

use super::{
    super::{BrokerError, LEASE, Presence, Told},
    PresenceLog,
    message::{Message, Name, Says},
    replica::{Need, Replica, State},
};
use crate::hub::{channel::ChannelName, connection::ConnectionId, membership::Change};

/// How often a node tells all its members anew.
const ROUND: Duration = Duration::from_secs(60);
/// How long a round may go on before other things are told, and it goes on later.
const SPAN: Duration = Duration::from_secs(1);

/// The presence of a broker whose nodes share a log.
pub(in crate::broker) struct Members {
    log: Box<dyn PresenceLog>,
    replica: Arc<Replica>,
    writer: tokio::sync::Mutex<Writer>,
}

/// What this node writes.
struct Writer {
    /// Who it writes as.
    name: Option<Name>,
    /// Others know it by that name.
    is_known: bool,
    /// The number of its last message.
    number: u64,
    /// That message, until it was read back.
    pending: Option<Bytes>,
    round: Option<Round>,
    /// When the next round begins.
    round_due: Instant,
}

/// A round that is under way.
struct Round {
    has_begun: bool,
    /// Members that are still to be told of, unless they leave before.
    left: Vec<(ChannelName, ConnectionId)>,
}

/// Why something was not told.
enum Stop {
    /// The node was written off, or has not said yet that it lives.
    Forgotten,
    Failed(BrokerError),
}

impl Members {
    /// Writes to this log; whatever reads it tells this replica.
    pub(in crate::broker) fn new(log: Box<dyn PresenceLog>, replica: Arc<Replica>) -> Self {
        Self {
            log,
            replica,
            writer: tokio::sync::Mutex::new(Writer {
                name: None,
                is_known: false,
                number: 0,
                pending: None,
                round: None,
                round_due: Instant::now(),
            }),
        }
    }

    /// How long saying something may take. What takes longer is said again, and may come of the first time: others are
    /// not to take this node for dead meanwhile.
    fn limit(&self) -> Duration {
        self.log.timeout().min(LEASE / 3)
    }

    /// Does something, but not for too long, and says what became of it.
    async fn bounded(&self, what: impl Future<Output = Result<(), Stop>>) -> Told {
        let limit = self.limit();
        let done = timeout(limit, what).await;
        let done = done.unwrap_or_else(|_| Err(Stop::Failed(self.replica.late(limit))));
        Told {
            forgotten: matches!(done, Err(Stop::Forgotten)),
            // Also of what was given up before this.
            occupancy: self.replica.look(|state| state.take_untold()),
            failed: match done {
                Err(Stop::Failed(error)) => Some(error),
                Ok(()) | Err(Stop::Forgotten) => None,
            },
        }
    }

    /// Says that this node lives, or tells more of its round.
    async fn say_it_lives(&self) -> Result<(), Stop> {
        let mut writer = self.writer.lock().await;
        let writer = &mut *writer;
        let limit = self.limit() / 2;
        self.replica.with(Need::Live, limit, |_| ()).await?;
        let name = self.replica.take_name();
        if writer.name != Some(name) {
            *writer = Writer {
                name: Some(name),
                is_known: false,
                number: 0,
                pending: None,
                round: None,
                round_due: Instant::now() + ROUND,
            };
        }
        self.settle(writer).await?;
        if !writer.is_known {
            // It begins with nobody, so that whoever reads this knows all that it has.
            self.write(
                writer,
                Says::Round {
                    first: true,
                    last: true,
                    members: Vec::new(),
                },
            )
            .await?;
            writer.is_known = true;
            return Err(Stop::Forgotten);
        }
        let wanted = self.replica.look(|state| state.take_wants_round(name));
        let due = writer.round.is_none() && writer.round_due <= Instant::now();
        if wanted || due {
            writer.round = Some(Round {
                has_begun: false,
                left: self.replica.look(|state| state.roster.members(name)),
            });
        }
        match writer.round {
            Some(_) => self.tell_of_all(writer, name).await?,
            None => self.write(writer, Says::Lives).await?,
        }
        // Whatever others wrote before that was read by now.
        while let Some(silent) = self.replica.look(|state| {
            let silent = state.roster.silent(name, Instant::now());
            silent.first().copied()
        }) {
            tracing::info!(node = %silent, "a node is not heard any more; its members are forgotten");
            self.write(writer, Says::Dead(silent)).await?;
        }
        Ok(())
    }

    /// Goes on with the round.
    async fn tell_of_all(&self, writer: &mut Writer, name: Name) -> Result<(), Stop> {
        let until = Instant::now() + SPAN.min(self.limit() / 4);
        while let Some(round) = &mut writer.round {
            let first = !std::mem::replace(&mut round.has_begun, true);
            let mut members = Says::take_members(&mut round.left, self.log.largest());
            let last = round.left.is_empty();
            self.replica.look(|state| {
                for (channel, connections) in &mut members {
                    connections.retain(|connection| state.roster.has(name, channel, *connection));
                }
            });
            members.retain(|(_, connections)| !connections.is_empty());
            if last {
                writer.round = None;
                writer.round_due = Instant::now() + ROUND;
            }
            let part = Says::Round {
                first,
                last,
                members,
            };
            self.write(writer, part).await?;
            if Instant::now() > until {
                break;
            }
        }
        Ok(())
    }

    async fn tell_of(&self, changes: &[Change]) -> Result<(), Stop> {
        let mut writer = self.writer.lock().await;
        let name = self.replica.look(|state| state.name);
        if name.is_none() || writer.name != name || !writer.is_known {
            return Err(Stop::Forgotten);
        }
        // Whether a channel becomes occupied can be said only by who knows all that hear it.
        let limit = self.limit() / 2;
        self.replica.with(Need::Whole, limit, |_| ()).await?;
        self.settle(&mut writer).await?;
        for says in Says::changes(changes, self.log.largest()) {
            self.write(&mut writer, says).await?;
        }
        Ok(())
    }

    /// Writes a message, and waits until it is read back.
    async fn write(&self, writer: &mut Writer, says: Says) -> Result<(), Stop> {
        let from = writer.name.ok_or(Stop::Forgotten)?;
        writer.number += 1;
        let message = Message {
            from,
            number: writer.number,
            says,
        };
        writer.pending = Some(message.encode().into());
        self.settle(writer).await
    }

    /// Sees that the last message is read back, which may have been given up on before.
    async fn settle(&self, writer: &mut Writer) -> Result<(), Stop> {
        let Some(message) = writer.pending.clone() else {
            return Ok(());
        };
        let (name, number) = (writer.name, writer.number);
        let read_back = |state: &mut State| match state.name {
            _ if state.name != name => Some(Err(Stop::Forgotten)),
            Some(name) if state.roster.last(name) >= number => Some(Ok(())),
            _ => None,
        };
        if self.replica.look(read_back).is_none() {
            self.log.append(message).await?;
        }
        let settled = self.replica.wait(read_back).await;
        writer.pending = None;
        settled
    }
}

#[async_trait]
impl Presence for Members {
    async fn renew(&self) -> Result<Told, BrokerError> {
        Ok(self.bounded(self.say_it_lives()).await)
    }

    async fn tell(&self, changes: &[Change]) -> Result<Told, BrokerError> {
        Ok(self.bounded(self.tell_of(changes)).await)
    }

    async fn others(&self, channel: &ChannelName) -> Result<u64, BrokerError> {
        let limit = self.log.timeout();
        let count = self.replica.with(Need::Fresh, limit, |state| {
            state.roster.others(state.name, channel)
        });
        Ok(count.await? as u64)
    }

    async fn other_members(
        &self,
        channel: &ChannelName,
        limit: usize,
    ) -> Result<Vec<String>, BrokerError> {
        let time = self.log.timeout();
        let members = self.replica.with(Need::Fresh, time, |state| {
            state.roster.other_members(state.name, channel, limit)
        });
        let members = members.await?.into_iter();
        Ok(members.map(|connection| connection.to_string()).collect())
    }
}

impl From<BrokerError> for Stop {
    fn from(error: BrokerError) -> Self {
        Self::Failed(error)
    }
}
