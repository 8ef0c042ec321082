//! Who hears channels at which node.
//!
//! Each node has a name of its own and says every now and then that it lives. One that does not is taken for dead after
//! [`LEASE`], and others forget its members. Should it live after all, it takes another name and tells all anew. So it does
//! over every new connection: that may lead to a server that took over and has not heard all of what was told.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use redis::Value;

use super::{
    super::{BrokerError, LEASE, Presence, Told},
    log::Log,
};
use crate::{
    hub::{channel::ChannelName, membership::Change},
    redis_pool::Script,
};

static RENEW: Script = Script::new(include_str!("scripts/presence_renew.lua"));
static TELL: Script = Script::new(include_str!("scripts/presence_tell.lua"));
static READ: Script = Script::new(include_str!("scripts/presence_read.lua"));

/// Scripts that are under way at a time.
const CALLS: usize = 64;

/// The members that nodes have told of.
pub(super) struct Members {
    log: Arc<Log>,
    node: Mutex<Node>,
}

#[derive(Clone)]
struct Node {
    name: String,
    /// The connection over which it has said that it lives.
    known: Option<u64>,
    /// Since it has this name, it has told of members.
    has_told: bool,
    /// What it was called before, where it has told of members by that name: to be forgotten once all is told anew.
    former: Vec<String>,
}

/// Those who came to hear a channel, and those who left.
#[derive(Default)]
struct Batch {
    came: Vec<String>,
    left: Vec<String>,
}

impl Members {
    pub(super) fn new(log: Arc<Log>) -> Self {
        Self {
            log,
            node: Mutex::new(Node::new()),
        }
    }

    #[cfg(test)]
    pub(super) fn node_name(&self) -> String {
        self.node().name
    }

    #[cfg(test)]
    pub(super) fn former_names(&self) -> Vec<String> {
        self.node().former
    }

    fn node(&self) -> Node {
        self.node.lock().clone()
    }

    /// Tells of members of one channel.
    async fn tell_of(
        &self,
        node: &str,
        channel: ChannelName,
        batch: Batch,
    ) -> Result<Told, BrokerError> {
        let keys = [
            self.log.key("nodes"),
            self.log.key(&format!("c:{channel}")),
            self.log.key(&format!("m:{channel}:{node}")),
            self.log.key(&format!("o:{node}")),
        ];
        let keys = keys.each_ref().map(|key| key.as_bytes());
        let came = batch.came.len().to_string();
        let lease = LEASE.as_micros().to_string();
        let mut arguments = vec![
            node.as_bytes(),
            channel.as_str().as_bytes(),
            lease.as_bytes(),
            came.as_bytes(),
        ];
        let names = batch.came.iter().chain(&batch.left);
        arguments.extend(names.map(|name| name.as_bytes()));
        let answer = self.log.run(&TELL, &keys, &arguments).await?;
        self.told(answer)
    }

    /// Reads what scripts say that change something: nothing for a node that was taken for dead, else the channels that
    /// became occupied and those that became vacated.
    fn told(&self, answer: Value) -> Result<Told, BrokerError> {
        let odd = || self.log.odd("telling who hears a channel");
        let Value::Array(parts) = answer else {
            return Ok(Told {
                forgotten: true,
                ..Told::default()
            });
        };
        let mut told = Told::default();
        for (part, occupied) in parts.into_iter().zip([true, false]) {
            let Value::Array(names) = part else {
                return Err(odd().into());
            };
            for name in names {
                let Value::BulkString(name) = name else {
                    return Err(odd().into());
                };
                let name = String::from_utf8(name).ok();
                let name = name.and_then(|name| ChannelName::new(&name).ok());
                told.occupancy.push((name.ok_or_else(odd)?, occupied));
            }
        }
        Ok(told)
    }

    /// How many there are at other nodes, and the names of so many.
    async fn read(
        &self,
        channel: &ChannelName,
        limit: usize,
    ) -> Result<(u64, Vec<String>), BrokerError> {
        let node = self.node();
        let (nodes, counts) = (self.log.key("nodes"), self.log.key(&format!("c:{channel}")));
        let members = self.log.key(&format!("m:{channel}:"));
        let limit = limit.to_string();
        let keys = [nodes.as_bytes(), counts.as_bytes()];
        let mut arguments = vec![members.as_bytes(), limit.as_bytes(), node.name.as_bytes()];
        arguments.extend(node.former.iter().map(|name| name.as_bytes()));
        let answer = self.log.run(&READ, &keys, &arguments).await?;
        let read = || {
            let Value::Array(parts) = answer else {
                return None;
            };
            let [Value::Int(total), Value::Array(names)] = parts.as_slice() else {
                return None;
            };
            let name = |name: &Value| match name {
                Value::BulkString(name) => String::from_utf8(name.clone()).ok(),
                _ => None,
            };
            let names: Option<Vec<_>> = names.iter().map(name).collect();
            Some((u64::try_from(*total).ok()?, names?))
        };
        Ok(read().ok_or_else(|| self.log.odd("asking who hears a channel"))?)
    }
}

#[async_trait]
impl Presence for Members {
    async fn renew(&self) -> Result<Told, BrokerError> {
        let connection = self.log.attach().await?;
        let node = {
            let mut node = self.node.lock();
            if node.known.is_some_and(|known| known != connection) {
                node.take_another_name();
            }
            node.clone()
        };
        let (nodes, dead, base) = (self.log.key("nodes"), self.log.key("dead"), self.log.base());
        let lease = LEASE.as_micros().to_string();
        let known = if node.known.is_some() { b"1" } else { b"0" };
        let keys = [nodes.as_bytes(), dead.as_bytes()];
        let mut arguments = vec![
            node.name.as_bytes(),
            lease.as_bytes(),
            known,
            base.as_bytes(),
        ];
        // Not before all is told anew: or channels would be vacated, and occupied again.
        let former = node.former.iter().filter(|_| node.has_told);
        arguments.extend(former.map(|name| name.as_bytes()));
        let answer = self.log.run(&RENEW, &keys, &arguments).await?;
        let mut told = self.told(answer)?;
        let mut current = self.node.lock();
        match (told.forgotten, node.known) {
            (true, _) => current.take_another_name(),
            // What it is to tell of is nothing that anybody knows yet.
            (false, None) => {
                told.forgotten = true;
                current.known = Some(connection);
            }
            (false, Some(_)) if node.has_told => current.former.clear(),
            (false, Some(_)) => {}
        }
        Ok(told)
    }

    async fn tell(&self, changes: &[Change]) -> Result<Told, BrokerError> {
        let mut batches: HashMap<ChannelName, Batch> = HashMap::new();
        for change in changes {
            let batch = batches.entry(change.channel.clone()).or_default();
            let name = change.connection.to_string();
            match change.joined {
                true => batch.came.push(name),
                false => batch.left.push(name),
            }
        }
        let node = &self.node().name;
        let calls = batches.into_iter();
        let calls = calls.map(|(channel, batch)| self.tell_of(node, channel, batch));
        let mut calls = stream::iter(calls).buffer_unordered(CALLS);
        let mut all = Told::default();
        while let Some(told) = calls.next().await {
            match told {
                Ok(told) => {
                    all.forgotten |= told.forgotten;
                    all.occupancy.extend(told.occupancy);
                }
                // What the others did is known by this alone.
                Err(error) => all.failed = Some(error),
            }
        }
        if !all.forgotten && all.failed.is_none() {
            let mut current = self.node.lock();
            current.has_told |= current.name == *node;
        }
        Ok(all)
    }

    async fn others(&self, channel: &ChannelName) -> Result<u64, BrokerError> {
        Ok(self.read(channel, 0).await?.0)
    }

    async fn other_members(
        &self,
        channel: &ChannelName,
        limit: usize,
    ) -> Result<Vec<String>, BrokerError> {
        Ok(self.read(channel, limit).await?.1)
    }
}

impl Node {
    fn new() -> Self {
        Self {
            name: format!("{:016x}", rand::random::<u64>()),
            known: None,
            has_told: false,
            former: Vec::new(),
        }
    }

    fn take_another_name(&mut self) {
        let before = std::mem::replace(self, Self::new());
        self.former = before.former;
        // Else there is nothing to forget, however often the connection breaks.
        self.former.extend(before.has_told.then_some(before.name));
    }
}
