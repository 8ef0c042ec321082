//! What a log is called on the server: its stream and its subjects.

use sha2::{Digest as _, Sha256};

use super::super::ids;
use crate::hub::channel::ChannelName;

/// What the names of all streams begin with.
const STREAM: &str = "fanfare-";
/// How much of the name of the log is in the name of its stream, in bytes. It is there for people: what has to tell logs
/// apart are the subjects.
const SHOWN: usize = 150;
/// What the name of the stream that only pushes ends with.
const PUSHED: &str = "-pushed";
/// What the name of the stream ends with in which nodes say who hears channels.
const PRESENCE: &str = "-presence-log";
/// Characters of an epoch. It is letters and digits at random.
const EPOCH: usize = 8;

/// The subjects of a log.
#[derive(Debug, Clone)]
pub(super) struct Names {
    /// The name of the log as one token of a subject.
    log: String,
}

/// A stream of a log. All there is to know about it is in its name, so whatever names the stream that a message is in
/// tells the position of that message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LogStream {
    pub(super) name: String,
    /// What the log is called in the ids of events.
    pub(super) epoch: String,
    /// The position before its first sequence.
    pub(super) base: u64,
}

impl Names {
    pub(super) fn new(log: &str) -> Self {
        // Servers take the subject that they push to for a format, in which `%` is no character like others.
        Self {
            log: token(log).replace('%', "="),
        }
    }

    /// Where events of a channel are published.
    pub(super) fn event(&self, channel: &ChannelName) -> String {
        format!("fanfare.{}.event.{}", self.log, token(channel.as_str()))
    }

    /// Where the events of all channels are.
    pub(super) fn all_events(&self) -> String {
        format!("fanfare.{}.event.*", self.log)
    }

    /// Where a node publishes what it is to hear itself.
    pub(super) fn node(&self, node: &str) -> String {
        format!("fanfare.{}.node.{node}", self.log)
    }

    /// Where nodes say who hears channels.
    pub(super) fn presence(&self) -> String {
        format!("fanfare.{}.presence", self.log)
    }

    /// The name of the stream that keeps that.
    pub(super) fn presence_stream(&self) -> String {
        match self.log.get(..SHOWN) {
            Some(shown) if shown.len() < self.log.len() => {
                let digest = Sha256::digest(self.log.as_bytes());
                let digest = digest.iter().take(16).map(|byte| format!("{byte:02x}"));
                let digest: String = digest.collect();
                format!("{STREAM}{shown}-{digest}{PRESENCE}")
            }
            _ => format!("{STREAM}{}{PRESENCE}", self.log),
        }
    }

    /// What the stream keeps.
    pub(super) fn subjects(&self) -> Vec<String> {
        vec![self.all_events(), self.node("*")]
    }

    /// Nothing is published here. A stream that only pushes needs a subject of its own.
    pub(super) fn unused(&self, of: &str) -> String {
        format!("fanfare.{}.unused.{of}", self.log)
    }

    /// From where to where the stream pushes.
    pub(super) fn republish(&self) -> (String, String) {
        let log = &self.log;
        (
            format!("fanfare.{log}.*.*"),
            format!("fanfare.{log}.pushed.{{{{wildcard(1)}}}}.{{{{wildcard(2)}}}}"),
        )
    }

    /// Where events of a channel are pushed.
    pub(super) fn pushed_event(&self, channel: &ChannelName) -> String {
        let channel = token(channel.as_str());
        format!("fanfare.{}.pushed.event.{channel}", self.log)
    }

    /// Where a node hears what it published itself.
    pub(super) fn pushed_node(&self, node: &str) -> String {
        format!("fanfare.{}.pushed.node.{node}", self.log)
    }

    /// What tells an event with an id of its own from all others of the log.
    pub(super) fn message_id(&self, channel: &ChannelName, id: &str) -> String {
        format!("{}/{}", token(channel.as_str()), token(id))
    }

    /// Whether this tells an event with this id, on whatever channel.
    pub(super) fn has_id(message_id: &str, id: &str) -> bool {
        message_id
            .split_once('/')
            .is_some_and(|(_, found)| found == token(id))
    }

    /// A new stream, whose positions come after this one.
    pub(super) fn new_stream(&self, base: u64) -> LogStream {
        let digits = |_| char::from_digit(rand::random_range(0..36), 36).unwrap_or('0');
        let epoch: String = (0..EPOCH).map(digits).collect();
        let mut shown = self.log.as_str();
        shown = shown.get(..SHOWN).unwrap_or(shown);
        LogStream {
            name: format!("{STREAM}{shown}-{base:016}-{epoch}"),
            epoch,
            base,
        }
    }
}

impl LogStream {
    /// Reads the name of a stream, which may be one of another program.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let mut words = name.strip_prefix(STREAM)?.rsplitn(3, '-');
        let (epoch, base, _shown) = (words.next()?, words.next()?, words.next()?);
        let base = base.parse().ok()?;
        is_epoch(epoch).then(|| Self {
            name: name.to_owned(),
            epoch: epoch.to_owned(),
            base,
        })
    }

    /// The name of the stream that pushes what this one keeps, where there has to be one.
    pub(super) fn pusher(&self) -> String {
        format!("{}{PUSHED}", self.name)
    }

    /// Whether a stream only pushes.
    pub(super) fn is_pusher(name: &str) -> bool {
        name.starts_with(STREAM) && name.ends_with(PUSHED)
    }

    /// The position of a message.
    pub(super) fn position(&self, sequence: u64) -> u64 {
        self.base.saturating_add(sequence)
    }

    /// The sequence of a position, 0 for one from before.
    pub(super) fn sequence(&self, position: u64) -> u64 {
        position.saturating_sub(self.base)
    }

    /// The id of the event at a position, where it has none of its own.
    pub(super) fn id_of(&self, position: u64) -> String {
        ids::id_of(&self.epoch, position)
    }

    /// The position that an id names which the broker gave.
    pub(super) fn position_of(&self, id: &str) -> Option<u64> {
        let position = ids::position_of(&self.epoch, id);
        position.filter(|position| *position > self.base)
    }
}

/// Whether an id looks like one that a stream gave, this one or another.
pub(super) fn is_given(id: &str) -> bool {
    id.split_once('-').is_some_and(|(epoch, position)| {
        is_epoch(epoch)
            && position.len() >= 16
            && position.bytes().all(|byte| byte.is_ascii_digit())
    })
}

fn is_epoch(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.len() == EPOCH && text.bytes().all(plain)
}

/// A text as one token of a subject, in which a dot, `*`, `>` and blanks mean something: letters, digits, `_` and `-`
/// stand for themselves, all other bytes are `%` and two hexadecimal digits, as in URLs.
fn token(text: &str) -> String {
    let mut token = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' => token.push(byte.into()),
            _ => token.push_str(&format!("%{byte:02X}")),
        }
    }
    token
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_one_token_of_a_subject() {
        let names = Names::new("app:log");
        for (channel, token) in [
            ("news", "news"),
            ("a.b.*", "a%2Eb%2E%2A"),
            (">", "%3E"),
            ("raum 1/größe", "raum%201%2Fgr%C3%B6%C3%9Fe"),
            ("%3E", "%253E"),
        ] {
            let channel = ChannelName::new(channel).unwrap();
            let subject = format!("fanfare.app=3Alog.event.{token}");
            assert_eq!(names.event(&channel), subject);
            let subject = format!("fanfare.app=3Alog.pushed.event.{token}");
            assert_eq!(names.pushed_event(&channel), subject);
        }
    }

    #[test]
    fn ids_are_told_apart() {
        let names = Names::new("log");
        let channel = ChannelName::new("a/b").unwrap();
        let id = names.message_id(&channel, "c/d\u{e4} ");
        assert_eq!(id, "a%2Fb/c%2Fd%C3%A4%20");
        assert!(Names::has_id(&id, "c/d\u{e4} "));
        for other in ["c/d", "d\u{e4} ", "", "b/c/d\u{e4} "] {
            assert!(!Names::has_id(&id, other), "{other}");
        }
        assert!(!Names::has_id("of another program", "of another program"));
    }

    #[test]
    fn a_stream_says_in_its_name_where_its_positions_begin() {
        for log in ["app:log", "a-b", &"☂".repeat(100)] {
            let stream = Names::new(log).new_stream(1_790_000_000_000_000);
            assert!(stream.name.len() < 255, "{}", stream.name);
            assert_eq!(LogStream::parse(&stream.name), Some(stream.clone()));
            assert_eq!(LogStream::parse(&stream.pusher()), None);
            assert!(LogStream::is_pusher(&stream.pusher()) && !LogStream::is_pusher(&stream.name));
            let position = stream.position(7);
            assert_eq!(position, 1_790_000_000_000_007);
            assert_eq!(stream.sequence(position), 7);
            assert_eq!(stream.sequence(5), 0);
            let id = stream.id_of(position);
            assert_eq!(stream.position_of(&id), Some(position));
            assert!(is_given(&id) && !is_given(&id[1..]));
            crate::event::check_id(&id, crate::event::IdForm::Plain).unwrap();
        }
        for other in [
            "ORDERS",
            "fanfare-",
            "fanfare-log-1-XY",
            "fanfare-log-x-abcdefgh",
        ] {
            assert_eq!(LogStream::parse(other), None, "{other}");
        }
    }

    #[test]
    fn who_hears_channels_is_said_elsewhere_for_each_log() {
        let names = Names::new("app:log");
        assert_eq!(names.presence(), "fanfare.app=3Alog.presence");
        let name = names.presence_stream();
        assert_eq!(name, "fanfare-app=3Alog-presence-log");
        assert!(!LogStream::is_pusher(&name));
        let long = |end: &str| Names::new(&("☂".repeat(60) + end)).presence_stream();
        assert!(long("a").len() < 255 && long("a") != long("b"));
        for log in ["a", "a-12", "a-12-abcdefgh", &"☂".repeat(100)] {
            let name = Names::new(log).presence_stream();
            assert_eq!(LogStream::parse(&name), None, "{name}");
        }
    }

    #[test]
    fn ids_that_were_never_given_are_no_positions() {
        let stream = LogStream::parse("fanfare-log-100-abcdefgh").unwrap();
        for id in [
            "abcdefgh-100",
            "abcdefgh-+107",
            "abcdefgh-0107",
            "abcdefgx-107",
            "abcdefgh107",
            "abcdefgh-99999999999999999999999",
        ] {
            assert_eq!(stream.position_of(id), None, "{id}");
        }
        assert_eq!(stream.position_of("abcdefgh-107"), Some(107));
    }
}
