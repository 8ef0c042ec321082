//! Who hears channels at which node.
//!
//! Each node has a name of its own and says every now and then that it lives. One that does not is taken for dead after
//! [`LEASE`], and others forget its members. Should it live after all, it takes another name and tells all anew.

use async_trait::async_trait;
use tokio_postgres::Row;

use super::{
    super::{BrokerError, LEASE, Presence, Told},
    Postgres,
    failure::Failure,
    log::Log,
};
use crate::hub::{channel::ChannelName, membership::Change};

/// What this node is called.
#[derive(Debug, Clone)]
pub(super) struct Node {
    name: String,
    /// Whether it has said that it lives.
    known: bool,
}

impl Node {
    pub(super) fn new() -> Self {
        Self {
            name: format!("{:016x}", rand::random::<u64>()),
            known: false,
        }
    }
}

impl Postgres {
    fn node(&self) -> Node {
        self.node.lock().clone()
    }
}

#[async_trait]
impl Presence for Postgres {
    async fn renew(&self) -> Result<Told, BrokerError> {
        let (running, node) = (self.running.get()?, self.node());
        let renewed = self.away("saying that this node lives", async move {
            let (log, session) = (&running.log, running.session().await?);
            let lease = i64::try_from(LEASE.as_micros()).unwrap_or(i64::MAX);
            let rows = session
                .ask(
                    "saying that this node lives",
                    &session.statements.renew,
                    &[&log.name(), &node.name, &lease, &node.known],
                )
                .await?;
            told(log, &rows)
        });
        let mut told = renewed.await?;
        let mut current = self.node.lock();
        match told.forgotten {
            true => *current = Node::new(),
            // What it is to tell of is nothing that anybody knows yet.
            false => {
                told.forgotten = !current.known;
                current.known = true;
            }
        }
        Ok(told)
    }

    async fn tell(&self, changes: &[Change]) -> Result<Told, BrokerError> {
        let (running, node) = (self.running.get()?, self.node().name);
        let changes = changes.to_vec();
        self.away("telling who hears channels", async move {
            let (log, session) = (&running.log, running.session().await?);
            let channels = changes.iter().map(|change| change.channel.as_str());
            let connections = changes.iter().map(|change| change.connection.to_string());
            let joined = changes.iter().map(|change| change.joined);
            let rows = session
                .ask(
                    "telling who hears channels",
                    &session.statements.tell,
                    &[
                        &log.name(),
                        &node,
                        &channels.collect::<Vec<_>>(),
                        &connections.collect::<Vec<_>>(),
                        &joined.collect::<Vec<_>>(),
                    ],
                )
                .await?;
            told(log, &rows)
        })
        .await
    }

    async fn others(&self, channel: &ChannelName) -> Result<u64, BrokerError> {
        let (running, node) = (self.running.get()?, self.node().name);
        let channel = channel.clone();
        self.away("counting who hears a channel", async move {
            let (log, session) = (&running.log, running.session().await?);
            let rows = session
                .ask(
                    "counting who hears a channel",
                    &session.statements.others,
                    &[&log.name(), &channel.as_str(), &node],
                )
                .await?;
            Ok(log.count(&rows)? as u64)
        })
        .await
    }

    async fn other_members(
        &self,
        channel: &ChannelName,
        limit: usize,
    ) -> Result<Vec<String>, BrokerError> {
        let (running, node) = (self.running.get()?, self.node().name);
        let channel = channel.clone();
        self.away("asking who hears a channel", async move {
            let (log, session) = (&running.log, running.session().await?);
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let rows = session
                .ask(
                    "asking who hears a channel",
                    &session.statements.members,
                    &[&log.name(), &channel.as_str(), &node, &limit],
                )
                .await?;
            rows.iter().map(|row| log.get(row, 0)).collect()
        })
        .await
    }
}

/// Reads what functions say that change members.
fn told(log: &Log, rows: &[Row]) -> Result<Told, Failure> {
    let mut told = Told::default();
    for row in rows {
        told.forgotten |= log.get::<bool>(row, 0)?;
        let (channel, occupied): (Option<String>, Option<bool>) =
            (log.get(row, 1)?, log.get(row, 2)?);
        if let Some(channel) = channel.and_then(|channel| ChannelName::new(&channel).ok()) {
            told.occupancy.push((channel, occupied.unwrap_or(false)));
        }
    }
    Ok(told)
}
