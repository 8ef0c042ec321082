//! What a process prints, line by line.

use std::{
    io::{BufRead, BufReader, Read},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};

use crate::wait::PATIENCE;

/// The lines so far. A thread reads more of them until the process closes its end.
#[derive(Clone)]
pub(super) struct Lines {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: Vec<String>,
    ended: bool,
    /// Lines that `next_with` has gone by.
    taken: usize,
}

impl Lines {
    pub(super) fn of(from: impl Read + Send + 'static) -> Self {
        let shared = Arc::<Shared>::default();
        let lines = Self {
            shared: shared.clone(),
        };
        thread::spawn(move || {
            let mut from = BufReader::new(from);
            let mut line = Vec::new();
            while from
                .read_until(b'\n', &mut line)
                .is_ok_and(|bytes| bytes > 0)
            {
                let text = String::from_utf8_lossy(&line)
                    .trim_end_matches('\n')
                    .to_owned();
                line.clear();
                lock(&shared).lines.push(text);
                shared.changed.notify_all();
            }
            lock(&shared).ended = true;
            shared.changed.notify_all();
        });
        lines
    }

    pub(super) fn all(&self) -> Vec<String> {
        lock(&self.shared).lines.clone()
    }

    pub(super) fn text(&self) -> String {
        self.all().iter().map(|line| format!("{line}\n")).collect()
    }

    /// The first line that fits, waited for; `None` where it does not come.
    pub(super) fn find(&self, fits: impl Fn(&str) -> bool) -> Option<String> {
        let mut seen = 0;
        self.wait(PATIENCE, |state| {
            let line = state.lines[seen..].iter().find(|line| fits(line)).cloned();
            seen = state.lines.len();
            line
        })
    }

    /// As `find`, but from the line on that was found the last time.
    pub(super) fn next_with(&self, part: &str, patience: Duration) -> Option<String> {
        self.wait(patience, |state| {
            let place = state.lines[state.taken..]
                .iter()
                .position(|line| line.contains(part))?;
            let place = state.taken + place;
            state.taken = place + 1;
            Some(state.lines[place].clone())
        })
    }

    /// All of it, after the process has ended.
    pub(super) fn to_the_end(&self) -> String {
        self.wait(PATIENCE, |state| state.ended.then_some(()));
        self.text()
    }

    fn wait<T>(
        &self,
        patience: Duration,
        mut look: impl FnMut(&mut State) -> Option<T>,
    ) -> Option<T> {
        let deadline = Instant::now() + patience;
        let mut state = lock(&self.shared);
        loop {
            if let Some(found) = look(&mut state) {
                return Some(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if state.ended || left.is_zero() {
                return None;
            }
            state = self
                .shared
                .changed
                .wait_timeout(state, left)
                .expect("no holder panics")
                .0;
        }
    }
}

fn lock(shared: &Shared) -> MutexGuard<'_, State> {
    shared.state.lock().expect("no holder panics")
}
