//! What `POST /publish` and `POST /repeat` ask a server for, and what they answer.

use std::time::{Duration, Instant};

use crate::{
    payload::{Payload, now},
    query::Query,
};

/// Rounds of events: in each, one event on each of the channels `<prefix>-0`, `<prefix>-1` …
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// What the names of the channels begin with: letters, digits and dashes, since it stands in addresses as it is.
    pub prefix: String,
    /// How many channels.
    pub channels: u64,
    /// How many rounds, and so events on each channel.
    pub events: u64,
    /// From the beginning of a round to that of the next; zero is as fast as they are accepted.
    pub interval: Duration,
    /// The bytes of data of one event.
    pub size: usize,
    /// The number of the first event.
    pub from: u64,
}

/// How publishing went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// The events that were published, on all channels.
    pub count: u64,
    /// How long it took, in nanoseconds.
    pub nanos: u64,
}

impl Publish {
    /// The name of a channel.
    pub fn channel(&self, number: u64) -> String {
        Self::channel_of(&self.prefix, number)
    }

    /// The name of a channel with this prefix.
    pub fn channel_of(prefix: &str, number: u64) -> String {
        format!("{prefix}-{number}")
    }

    /// Reads the prefix and the number of channels of a query; fails as [`Self::from_query`].
    pub fn channels_of_query(query: &str) -> Result<(String, u64), String> {
        let query = Query::new(query);
        Ok((query.text("prefix")?, query.number("channels")?))
    }

    /// The data of an event of `POST /repeat`, where all are the same.
    pub fn data(&self) -> String {
        "x".repeat(self.size)
    }

    /// The number after that of the last event.
    pub fn end(&self) -> u64 {
        self.from + self.events
    }

    /// How long it takes, if every round is accepted in its time.
    pub fn duration(&self) -> Duration {
        self.interval * u32::try_from(self.events).unwrap_or(u32::MAX)
    }

    /// The query that asks for this.
    pub fn query(&self) -> String {
        format!(
            "prefix={}&channels={}&events={}&interval-us={}&size={}&from={}",
            self.prefix,
            self.channels,
            self.events,
            self.interval.as_micros(),
            self.size,
            self.from
        )
    }

    /// Reads a query; fails with a sentence that names what is missing or is no number.
    pub fn from_query(query: &str) -> Result<Self, String> {
        let (prefix, channels) = Self::channels_of_query(query)?;
        let query = Query::new(query);
        Ok(Self {
            prefix,
            channels,
            events: query.number("events")?,
            interval: Duration::from_micros(query.number("interval-us")?),
            size: query.number("size")? as usize,
            from: query.number("from")?,
        })
    }

    /// When a round begins, counted from 0.
    pub fn due(&self, start: Instant, round: u64) -> Instant {
        start + self.interval * u32::try_from(round).unwrap_or(u32::MAX)
    }

    /// Publishes one round, counted from 0: each event to its channel, by name. Ends with the first error.
    pub fn round<E>(
        &self,
        round: u64,
        mut publish: impl FnMut(&str, Payload, String) -> Result<(), E>,
    ) -> Result<(), E> {
        for channel in 0..self.channels {
            let payload = Payload {
                number: self.from + round,
                nanos: now(),
            };
            publish(&self.channel(channel), payload, payload.text(self.size))?;
        }
        Ok(())
    }

    /// Publishes all rounds, each in its time; a round that is late begins at once. Ends with the first error.
    pub fn rounds<E>(
        &self,
        sleep: impl Fn(Duration),
        mut publish: impl FnMut(&str, Payload, String) -> Result<(), E>,
    ) -> Result<Published, E> {
        let start = Instant::now();
        for round in 0..self.events {
            let early = self
                .due(start, round)
                .saturating_duration_since(Instant::now());
            if !early.is_zero() {
                sleep(early);
            }
            self.round(round, &mut publish)?;
        }
        Ok(self.published(start))
    }

    /// The answer, when everything has been published since `start`.
    pub fn published(&self, start: Instant) -> Published {
        Published {
            count: self.channels * self.events,
            nanos: start.elapsed().as_nanos() as u64,
        }
    }
}

impl Published {
    /// The answer as JSON: `{"published": count, "nanos": duration}`.
    pub fn json(self) -> String {
        format!(
            r#"{{"published": {}, "nanos": {}}}"#,
            self.count, self.nanos
        )
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn publish() -> Publish {
        Publish {
            prefix: "a".into(),
            channels: 2,
            events: 3,
            interval: Duration::from_millis(2),
            size: 50,
            from: 5,
        }
    }

    #[test]
    fn a_query_is_read_as_written() {
        assert_eq!(Publish::from_query(&publish().query()), Ok(publish()));
        assert_eq!(
            Publish::from_query("prefix=a&channels=x"),
            Err("channels is no number".into())
        );
        assert_eq!(Publish::from_query(""), Err("prefix is missing".into()));
    }

    #[test]
    fn rounds_are_in_order_and_in_time() {
        let mut heard = Vec::new();
        let published = publish().rounds(std::thread::sleep, |channel, payload, text| {
            assert_eq!(Payload::read(text.as_bytes()), Some(payload));
            heard.push((channel.to_owned(), payload.number));
            Ok::<_, Infallible>(())
        });
        let published = published.unwrap();
        assert_eq!(published.count, 6);
        assert!(published.nanos >= 4_000_000);
        let expected = [
            ("a-0", 5),
            ("a-1", 5),
            ("a-0", 6),
            ("a-1", 6),
            ("a-0", 7),
            ("a-1", 7),
        ];
        assert_eq!(
            heard,
            expected.map(|(channel, number)| (channel.to_owned(), number))
        );
    }
}
