//! What of a guest may stand in the log: no secrets, nothing too long, and not too much of it.

use std::{
    cmp::Reverse,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::limits::{Limit, Reached};

/// A longer text of a guest is cut in the log, in bytes.
const LOGGED_BYTES: usize = 16 * 1024;
/// A secret is hidden in the log from this length on: of a shorter one the log would tell more by hiding it everywhere.
const HIDDEN_BYTES: usize = 4;
/// What the limit of lines is counted over.
const WINDOW: Duration = Duration::from_secs(1);

/// An app's part of the log.
#[derive(Debug)]
pub struct GuestLog {
    /// Values that never stand in a log, the longest first.
    secrets: Vec<String>,
    /// Lines in a second.
    limit: usize,
    reached: Arc<Reached>,
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    begun: Instant,
    lines: usize,
}

/// Whether a line may be logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// It may.
    Free,
    /// It is the first that may not, which is to be said once.
    JustFull,
    /// It may not.
    Full,
}

impl GuestLog {
    /// A log of at most so many lines in a second, in which none of these secrets stands.
    pub fn new<'s>(
        secrets: impl Iterator<Item = &'s str>,
        limit: usize,
        reached: Arc<Reached>,
    ) -> Self {
        // Line by line as well: a key in PEM form would never stand on one line of the log.
        let secrets = secrets.flat_map(|secret| {
            let lines = secret.lines().map(str::trim);
            std::iter::once(secret).chain(lines)
        });
        let secrets = secrets.filter(|secret| secret.len() >= HIDDEN_BYTES);
        let mut secrets: Vec<_> = secrets.map(str::to_owned).collect();
        // The longest first: one that another begins with would leave the rest of that to be read.
        secrets.sort_unstable_by_key(|secret| Reverse(secret.len()));
        secrets.dedup();
        Self {
            secrets,
            limit,
            reached,
            window: Mutex::new(Window {
                begun: Instant::now(),
                lines: 0,
            }),
        }
    }

    /// Takes room for a line.
    pub fn room(&self) -> Room {
        self.room_at(Instant::now())
    }

    fn room_at(&self, now: Instant) -> Room {
        let mut window = self.window.lock();
        if now.saturating_duration_since(window.begun) >= WINDOW {
            *window = Window {
                begun: now,
                lines: 0,
            };
        }
        window.lines += 1;
        if window.lines <= self.limit {
            return Room::Free;
        }
        self.reached.count(Limit::LogLines);
        match window.lines == self.limit + 1 {
            true => Room::JustFull,
            false => Room::Full,
        }
    }

    /// How many bytes at the end of an unfinished line may be the beginning of a secret.
    pub fn held_back(&self) -> usize {
        self.secrets.first().map_or(0, |secret| secret.len() - 1)
    }

    /// Takes what may be logged of an unfinished line that is too long to wait for its end. What may be the beginning of
    /// a secret or of a character stays.
    pub fn cut(&self, line: &mut Vec<u8>) -> Vec<u8> {
        let unfinished = match std::str::from_utf8(line) {
            Err(error) if error.error_len().is_none() => line.split_off(error.valid_up_to()),
            _ => Vec::new(),
        };
        let mut text = self.without_secrets(&String::from_utf8_lossy(line));
        let end = text.floor_char_boundary(text.len().saturating_sub(self.held_back()));
        *line = text.split_off(end).into_bytes();
        line.extend(unfinished);
        text.into_bytes()
    }

    fn without_secrets(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.secrets {
            if text.contains(secret) {
                text = text.replace(secret, "[secret]");
            }
        }
        text
    }

    /// A text of the guest as it may stand in the log. Control characters are shown and not obeyed: a terminal would go
    /// back over what stands there. Line endings and tabs stay, because backtraces have them, and so does ESC, which
    /// the log shows as its format has it.
    pub fn loggable(&self, text: &str) -> String {
        let mut text = self.without_secrets(text);
        if text.len() > LOGGED_BYTES {
            text.truncate(text.floor_char_boundary(LOGGED_BYTES));
            text.push_str(" … (cut)");
        }
        let odd = |c: char| c.is_control() && !matches!(c, '\n' | '\t' | '\u{1b}');
        if text.contains(odd) {
            let show = |c: char| match odd(c) {
                true => c.escape_default().to_string(),
                false => c.to_string(),
            };
            text = text.chars().map(show).collect();
        }
        text
    }
}

/// What the log says once where it is full.
impl fmt::Display for GuestLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the app's limit {} of {} a second is reached; what comes of it until the second is over is left out",
            Limit::LogLines,
            self.limit
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(secrets: &[&str], limit: usize) -> (GuestLog, Arc<Reached>) {
        let reached = Arc::<Reached>::default();
        let log = GuestLog::new(secrets.iter().copied(), limit, reached.clone());
        (log, reached)
    }

    #[test]
    fn a_text_of_a_guest_is_cut_between_characters_and_holds_no_secret() {
        let (log, _) = log(&["pass", "password123", "abc", "first\n second line "], 1);
        assert_eq!(
            log.loggable("password123, pass, abc, second line"),
            "[secret], [secret], abc, [secret]"
        );
        let long = log.loggable(&"ä".repeat(LOGGED_BYTES));
        assert!(long.len() < LOGGED_BYTES + 20 && long.ends_with("(cut)"));
    }

    #[test]
    fn control_characters_are_shown() {
        let (log, _) = log(&[], 1);
        assert_eq!(
            log.loggable("a\tb\r\0\u{1b}[31m\u{85}\n  ü"),
            "a\tb\\r\\u{0}\u{1b}[31m\\u{85}\n  ü"
        );
    }

    #[test]
    fn lines_past_the_limit_have_no_room_until_the_second_is_over() {
        let (log, reached) = log(&[], 2);
        let now = Instant::now();
        let room = |later| log.room_at(now + Duration::from_millis(later));
        assert_eq!(
            [0, 1, 2, 3].map(room),
            [Room::Free, Room::Free, Room::JustFull, Room::Full]
        );
        assert_eq!(
            [1500, 1501, 1502].map(room),
            [Room::Free, Room::Free, Room::JustFull]
        );
        assert_eq!(
            reached.figures()[Limit::LogLines as usize],
            (Limit::LogLines, 3)
        );
    }
}
