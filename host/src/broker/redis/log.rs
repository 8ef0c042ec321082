//! What is kept on the server: a log for each publisher, in keys that begin with its name.

use std::time::Duration;

use parking_lot::Mutex;
use redis::Value;

use super::{
    super::{Accepted, Page, Retention, ids, payload},
    Newest,
};
use crate::{
    event::Event,
    hub::{carried::Placed, channel::ChannelName},
    redis_pool::{RedisClient, RedisError, Script},
};

static ATTACH: Script = Script::new(include_str!("scripts/attach.lua"));
static PUBLISH: Script = Script::new(include_str!("scripts/publish.lua"));
static READ: Script = Script::new(include_str!("scripts/read.lua"));
static TELL: Script = Script::new(include_str!("scripts/tell.lua"));

/// A log on a server.
pub(super) struct Log {
    client: RedisClient,
    /// What all of its keys begin with.
    name: String,
    /// How many events of a channel it keeps, and for how many microseconds, as scripts take it.
    retention: [String; 2],
    /// The newest position that was seen of it.
    pub(super) newest: Newest,
    /// The connection that it was attached to over, and what the log is called in the ids of events.
    attached: Mutex<Option<(u64, String)>>,
    attaching: tokio::sync::Mutex<()>,
}

/// An event as it is kept and pushed.
pub(super) struct Message<'a> {
    pub(super) position: u64,
    pub(super) previous: Option<u64>,
    pub(super) epoch: &'a str,
    pub(super) payload: &'a [u8],
}

impl Log {
    pub(super) fn new(client: RedisClient, name: String, retention: Retention) -> Self {
        Self {
            client,
            name: format!("{{{name}}}"),
            retention: [
                retention.events.max(1).to_string(),
                retention.age.as_micros().to_string(),
            ],
            newest: Newest::default(),
            attached: Mutex::default(),
            attaching: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn client(&self) -> &RedisClient {
        &self.client
    }

    /// Sees that there is a log, and that what is accepted from now on comes after all that was seen of it: before a
    /// connection is used, because it may lead to a server that does not know it, or not all of it.
    ///
    /// Returns the connection that it is attached to over.
    pub(super) async fn attach(&self) -> Result<u64, RedisError> {
        let connection = self.client.connection()?;
        if self.is_attached(connection) {
            return Ok(connection);
        }
        let _attaching = self.attaching.lock().await;
        let connection = self.client.connection()?;
        if self.is_attached(connection) {
            return Ok(connection);
        }
        let known = self.newest.get().to_string();
        let fresh = format!("r{:09x}", rand::random::<u64>() >> 28);
        let all = self.channel_of_all();
        let arguments = [
            known.as_bytes(),
            fresh.as_bytes(),
            all.as_bytes(),
            self.publish_command(),
        ];
        let keys = [self.name.as_bytes()];
        let answer = self.client.run(connection, &ATTACH, &keys, &arguments);
        let answer = answer.await?;
        let [last, epoch] = parts(answer).ok_or_else(|| self.odd("attaching"))?;
        let last = number(&last).ok_or_else(|| self.odd("attaching"))?;
        let epoch = text(epoch).ok_or_else(|| self.odd("attaching"))?;
        self.newest.saw(last);
        *self.attached.lock() = Some((connection, epoch));
        Ok(connection)
    }

    fn is_attached(&self, connection: u64) -> bool {
        let attached = self.attached.lock();
        attached
            .as_ref()
            .is_some_and(|(known, _)| *known == connection)
    }

    /// There is no log any more: somebody has emptied the server.
    fn forget_attached(&self) {
        *self.attached.lock() = None;
    }

    /// Runs a script, on a log that is there.
    pub(super) async fn run(
        &self,
        script: &Script,
        keys: &[&[u8]],
        arguments: &[&[u8]],
    ) -> Result<Value, RedisError> {
        // Over no other connection than the one that is attached: another may lead to another server.
        let connection = self.attach().await?;
        match self.client.run(connection, script, keys, arguments).await? {
            Value::Nil | Value::Boolean(false) => {
                self.forget_attached();
                let connection = self.attach().await?;
                self.client.run(connection, script, keys, arguments).await
            }
            answer => Ok(answer),
        }
    }

    /// Accepts an event.
    pub(super) async fn publish(
        &self,
        channel: &ChannelName,
        event: &Event,
    ) -> Result<Accepted, RedisError> {
        let [most, age] = &self.retention;
        let payload = payload::encode(event);
        let (events, push) = (self.events(channel), self.push_channel(channel));
        let own_id = event.id().map(|id| self.own_id(id));
        let mut keys = vec![self.name.as_bytes(), events.as_bytes()];
        keys.extend(own_id.as_ref().map(|key| key.as_bytes()));
        let name = channel.as_str().as_bytes();
        let arguments = [
            push.as_bytes(),
            name,
            &payload,
            most.as_bytes(),
            age.as_bytes(),
            self.publish_command(),
        ];
        let answer = self.run(&PUBLISH, &keys, &arguments).await?;
        let accepted = (|| {
            let [position, duplicate, epoch] = parts(answer)?;
            let (position, epoch) = (number(&position)?, text(epoch)?);
            Some(Accepted {
                id: match event.id() {
                    Some(id) => id.to_owned(),
                    None => ids::id_of(&epoch, position),
                },
                position,
                duplicate: number(&duplicate)? == 1,
            })
        })();
        let accepted = accepted.ok_or_else(|| self.odd("publishing"))?;
        self.newest.saw(accepted.position);
        Ok(accepted)
    }

    /// Reads events of a channel after a position.
    pub(super) async fn read(
        &self,
        channel: &ChannelName,
        after: u64,
        limit: usize,
        event_data: usize,
    ) -> Result<Page, RedisError> {
        let [_, age] = &self.retention;
        let (events, position) = (self.events(channel), after);
        let after = after.to_string();
        let mut limit = limit;
        let answer = loop {
            let count = limit.to_string();
            let arguments = [after.as_bytes(), count.as_bytes(), age.as_bytes()];
            let keys = [self.name.as_bytes(), events.as_bytes()];
            match self.run(&READ, &keys, &arguments).await {
                // So many at a time are too large together.
                Err(RedisError::Limited(_)) if limit > 1 => limit = limit.div_ceil(8),
                answer => break answer?,
            }
        };
        let page = self.page(channel, position, answer, event_data);
        page.ok_or_else(|| self.odd("reading"))
    }

    /// What was read after a position.
    fn page(
        &self,
        channel: &ChannelName,
        after: u64,
        answer: Value,
        event_data: usize,
    ) -> Option<Page> {
        let [last, missing, now, entries, more] = parts(answer)?;
        let mut missing = number(&missing)?;
        let (last, now) = (number(&last)?, number(&now)?);
        let Value::Array(entries) = entries else {
            return None;
        };
        let more = number(&more)? == 1;
        let mut through = if more { after } else { last };
        let mut events = Vec::with_capacity(entries.len());
        for entry in entries {
            // Others may have written it: then it is none of ours.
            let Value::BulkString(entry) = entry else {
                continue;
            };
            let Some(message) = Message::parse(&entry) else {
                continue;
            };
            let position = message.position;
            if more {
                through = through.max(position);
            }
            let age = Duration::from_micros(now.saturating_sub(position));
            match self.placed(channel, &message, age, event_data) {
                Some(placed) => events.push(placed),
                // A node of another version may have accepted it: clients are to know that they miss it.
                None => missing = position,
            }
        }
        if more && through <= after {
            // It would be read again for ever.
            return None;
        }
        self.newest.saw(last);
        Some(Page {
            events,
            missing,
            through,
            more,
        })
    }

    /// An event that was kept or pushed; `None` where it cannot be read, which is logged.
    pub(super) fn placed(
        &self,
        channel: &ChannelName,
        message: &Message<'_>,
        age: Duration,
        event_data: usize,
    ) -> Option<Placed> {
        let position = message.position;
        let id = || ids::id_of(message.epoch, position);
        match payload::decode(message.payload, id, event_data) {
            Ok((event, own_id)) => Some(Placed {
                position,
                event,
                own_id,
                age,
            }),
            Err(error) => {
                tracing::warn!(
                    log = self.name,
                    channel = channel.as_str(),
                    position,
                    %error,
                    "what was published through Redis is not an event of a publisher and is skipped"
                );
                None
            }
        }
    }

    /// The newest position.
    pub(super) async fn newest_position(&self) -> Result<u64, RedisError> {
        self.tell("").await
    }

    /// Has the newest position pushed over a Redis channel, and returns it.
    pub(super) async fn tell(&self, push: &str) -> Result<u64, RedisError> {
        let answer = self
            .run(
                &TELL,
                &[self.name.as_bytes()],
                &[push.as_bytes(), self.publish_command()],
            )
            .await?;
        let position = number(&answer).ok_or_else(|| self.odd("asking"))?;
        self.newest.saw(position);
        Ok(position)
    }

    /// The position of an id.
    pub(super) async fn place(
        &self,
        channel: &ChannelName,
        id: &str,
    ) -> Result<Option<u64>, RedisError> {
        self.attach().await?;
        if let Some(position) = self.position_of(id) {
            return Ok(Some(position));
        }
        // Not all of it: an id may be on every channel.
        let key = self.own_id(id).into_bytes();
        let ask = |command: &'static str, arguments| self.client.execute(command, arguments);
        let field = channel.as_str().as_bytes().to_vec();
        let own = ask("HGET", vec![key.clone(), field]).await?;
        if let Some(position) = number(&own) {
            return Ok(Some(position));
        }
        // On several channels it is a place on its own channels only.
        match ask("HLEN", vec![key.clone()]).await? {
            Value::Int(1) => match ask("HVALS", vec![key]).await? {
                Value::Array(values) => Ok(values.first().and_then(number)),
                _ => Err(self.odd("looking up an id")),
            },
            _ => Ok(None),
        }
    }

    /// The position in an id that this log gave.
    fn position_of(&self, id: &str) -> Option<u64> {
        let attached = self.attached.lock();
        let (_, epoch) = attached.as_ref()?;
        ids::position_of(epoch, id)
    }

    /// In a cluster, what is published is told by the server alone that has the log, over connections to it: in order.
    fn publish_command(&self) -> &'static [u8] {
        match self.client.url().servers().are_cluster() {
            true => b"SPUBLISH",
            false => b"PUBLISH",
        }
    }

    /// What the names of its keys begin with.
    pub(super) fn base(&self) -> &str {
        &self.name
    }

    /// One of its keys.
    pub(super) fn key(&self, what: &str) -> String {
        format!("{}:{what}", self.name)
    }

    fn events(&self, channel: &ChannelName) -> String {
        format!("{}:e:{channel}", self.name)
    }

    fn own_id(&self, id: &str) -> String {
        format!("{}:i:{id}", self.name)
    }

    /// The Redis channel that events of a channel are pushed over.
    pub(super) fn push_channel(&self, channel: &ChannelName) -> String {
        format!("{}:p:{channel}", self.name)
    }

    /// The channel whose events are pushed over a Redis channel.
    pub(super) fn channel_of(&self, push: &[u8]) -> Option<ChannelName> {
        let push = std::str::from_utf8(push).ok()?;
        let name = push.strip_prefix(self.name.as_str())?.strip_prefix(":p:")?;
        ChannelName::new(name).ok()
    }

    /// The Redis channel of all nodes, which are told there up to which position events may have been lost.
    pub(super) fn channel_of_all(&self) -> String {
        format!("{}:a", self.name)
    }

    /// A Redis channel of this node alone.
    pub(super) fn own_channel(&self) -> String {
        format!("{}:n:{:016x}", self.name, rand::random::<u64>())
    }

    pub(super) fn odd(&self, what: &str) -> RedisError {
        RedisError::Other(format!(
            "Redis at {} gave an answer to {what} that cannot be read; does another program write the keys that begin \
             with {:?}?",
            self.client.url().place(),
            self.name
        ))
    }
}

/// Positions are numbers in Lua: up to here they are exact.
const MOST: u64 = 1 << 53;

impl<'a> Message<'a> {
    /// Reads what publish.lua keeps and pushes.
    pub(super) fn parse(message: &'a [u8]) -> Option<Self> {
        let end = message.iter().position(|byte| *byte == b'\n')?;
        let mut words = std::str::from_utf8(&message[..end]).ok()?.split(' ');
        let position = words.next()?.parse().ok()?;
        (position < MOST).then_some(())?;
        Some(Self {
            position,
            previous: match words.next()? {
                unknown if unknown.starts_with('-') => None,
                previous => Some(previous.parse().ok()?),
            },
            epoch: words.next()?,
            payload: &message[end + 1..],
        })
    }
}

/// The elements of an answer that has so many.
fn parts<const N: usize>(answer: Value) -> Option<[Value; N]> {
    match answer {
        Value::Array(parts) => parts.try_into().ok(),
        _ => None,
    }
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        _ => None,
    }
}

fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
        _ => None,
    }
}
