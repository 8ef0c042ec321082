//! What `GET /park` asks a server for: a stream whose handler waits, and then says when it should have been woken.

use std::time::Duration;

use crate::{
    payload::{Payload, now},
    query::Query,
};

/// A handler that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Park {
    /// The channel that the stream hears, so that it outlives its handler. Letters, digits and dashes, since it stands in
    /// addresses as it is.
    pub channel: String,
    /// How long the handler waits.
    pub wait: Duration,
    /// The bytes of data of the event that follows.
    pub size: usize,
}

impl Park {
    /// The query that asks for this.
    pub fn query(&self) -> String {
        let Self {
            channel,
            wait,
            size,
        } = self;
        format!("channel={channel}&ms={}&size={size}", wait.as_millis())
    }

    /// Reads a query; fails with a sentence that names what is missing or is no number.
    pub fn from_query(query: &str) -> Result<Self, String> {
        let query = Query::new(query);
        Ok(Self {
            channel: query.text("channel")?,
            wait: Duration::from_millis(query.number("ms")?),
            size: query.number("size")? as usize,
        })
    }

    /// The data of the only event, made before the wait: it is published late by as much as the handler was woken late.
    pub fn data(&self) -> String {
        let payload = Payload {
            number: 0,
            nanos: now() + self.wait.as_nanos() as u64,
        };
        payload.text(self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_as_written() {
        let park = Park {
            channel: "a-1".into(),
            wait: Duration::from_millis(1500),
            size: 64,
        };
        assert_eq!(Park::from_query(&park.query()), Ok(park));
        assert_eq!(
            Park::from_query("channel=a&ms=soon&size=1"),
            Err("ms is no number".into())
        );
    }

    #[test]
    fn the_event_is_due_when_the_wait_is_over() {
        let park = Park {
            channel: "a".into(),
            wait: Duration::from_secs(60),
            size: 64,
        };
        let (before, data, after) = (now(), park.data(), now());
        let payload = Payload::read(data.as_bytes()).unwrap();
        assert_eq!((payload.number, data.len()), (0, 64));
        let wait = 60_000_000_000;
        assert!((before + wait..=after + wait).contains(&payload.nanos));
    }
}
