//! A message that was pushed, and where its place is.

use std::sync::Arc;

use async_nats::Message;

use super::names::LogStream;
use crate::hub::channel::ChannelName;

/// What it was pushed for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Markers,
    Channel(ChannelName),
}

/// A message that a stream pushed.
pub(super) struct Taken {
    pub(super) key: Key,
    pub(super) stream: Arc<LogStream>,
    pub(super) sequence: u64,
    /// The sequence of the message before it on its subject, where it is known.
    pub(super) previous: Option<u64>,
    pub(super) message: Message,
}

impl Taken {
    /// What a stream pushed, and the stream that the last message was from.
    pub(super) fn read(
        key: &Key,
        message: Message,
        known: &mut Option<Arc<LogStream>>,
    ) -> Option<Self> {
        let headers = message.headers.as_ref()?;
        let header = |name: &str| headers.get(name).map(|value| value.as_str());
        let pushed_by = header("Nats-Stream")?;
        let (name, sequence, previous) = match LogStream::is_pusher(pushed_by) {
            // It says where it has the message from: nothing is lost on the way.
            true => {
                let mut words = header("Nats-Stream-Source")?.split(' ');
                (words.next()?, words.next()?.parse().ok()?, None)
            }
            false => {
                let previous = header("Nats-Last-Sequence")?.parse().ok()?;
                let sequence = header("Nats-Sequence")?.parse().ok()?;
                (pushed_by, sequence, Some(previous))
            }
        };
        let stream = match known {
            Some(known) if known.name == name => known.clone(),
            _ => {
                let stream = Arc::new(LogStream::parse(name)?);
                *known = Some(stream.clone());
                stream
            }
        };
        Some(Self {
            key: key.clone(),
            stream,
            sequence,
            previous,
            message,
        })
    }

    pub(super) fn position(&self) -> u64 {
        self.stream.position(self.sequence)
    }

    pub(super) fn bytes(&self) -> usize {
        self.message.length
    }
}

#[cfg(test)]
mod tests {
    use async_nats::HeaderMap;

    use super::*;

    fn read(headers: &[(&str, &str)]) -> Option<(String, u64, Option<u64>)> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, *value);
        }
        let message = Message {
            subject: "fanfare.log.pushed.event.news".into(),
            reply: None,
            payload: "x".into(),
            headers: Some(map),
            status: None,
            description: None,
            length: 1,
        };
        let taken = Taken::read(&Key::Markers, message, &mut None)?;
        Some((taken.stream.epoch.clone(), taken.position(), taken.previous))
    }

    #[test]
    fn a_stream_says_what_was_before_and_one_that_only_pushes_whence_it_is() {
        let direct = [
            ("Nats-Stream", "fanfare-log-100-abcdefgh"),
            ("Nats-Subject", "fanfare.log.event.news"),
            ("Nats-Sequence", "7"),
            ("Nats-Last-Sequence", "5"),
        ];
        assert_eq!(read(&direct), Some(("abcdefgh".into(), 107, Some(5))));
        // As servers of other versions write it.
        for source in [
            "fanfare-log-100-abcdefgh 7",
            "fanfare-log-100-abcdefgh 7 > fanfare.log.event.*",
        ] {
            let pushed = [
                ("Nats-Stream-Source", source),
                ("Nats-Stream", "fanfare-log-100-abcdefgh-pushed"),
                ("Nats-Sequence", "3"),
                ("Nats-Last-Sequence", "2"),
            ];
            assert_eq!(read(&pushed), Some(("abcdefgh".into(), 107, None)));
        }
        // Whoever publishes an event cannot give it another place.
        let forged = [
            &direct[..],
            &[("Nats-Stream-Source", "fanfare-log-100-abcdefgh 9")],
        ]
        .concat();
        assert_eq!(read(&forged), Some(("abcdefgh".into(), 107, Some(5))));
    }

    #[test]
    fn what_no_stream_pushed_is_told_apart() {
        for bad in [
            &[][..],
            &[
                ("Nats-Stream", "ORDERS"),
                ("Nats-Sequence", "7"),
                ("Nats-Last-Sequence", "5"),
            ],
            &[
                ("Nats-Stream", "fanfare-log-100-abcdefgh"),
                ("Nats-Sequence", "-7"),
                ("Nats-Last-Sequence", "5"),
            ],
            &[
                ("Nats-Stream", "fanfare-log-100-abcdefgh"),
                ("Nats-Sequence", "7"),
            ],
            &[
                ("Nats-Stream", "fanfare-log-100-abcdefgh-pushed"),
                ("Nats-Sequence", "7"),
            ],
            &[
                ("Nats-Stream", "fanfare-log-100-abcdefgh-pushed"),
                ("Nats-Stream-Source", "ORDERS 7"),
            ],
            &[
                ("Nats-Stream", "fanfare-log-100-abcdefgh-pushed"),
                ("Nats-Stream-Source", "7"),
            ],
        ] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }
}
