//! Time, and what falls due.

use std::{rc::Rc, time::Duration};

use super::{FOR_EVER, Fake, State};
use crate::CloseReason;

/// Code that runs later.
pub struct Scheduled {
    at: Duration,
    code: Box<dyn FnOnce(Rc<Fake>)>,
}

impl Fake {
    /// Runs code after so much time.
    pub fn schedule(&self, after: Duration, code: impl FnOnce(Rc<Fake>) + 'static) {
        let at = self.state().now.saturating_add(after);
        self.scheduled.borrow_mut().push(Scheduled {
            at,
            code: Box::new(code),
        });
    }

    /// Lets time pass, and does what falls due at its own time.
    pub fn advance(self: &Rc<Self>, duration: Duration) {
        let end = self.state().now.saturating_add(duration);
        while self.step(end) {}
        self.pass_until(end);
    }

    /// As [`advance`](Self::advance), but no longer than until there is something to return. Without a bound on the
    /// time it waits for that.
    ///
    /// # Panics
    ///
    /// Without a bound, where nothing is left to happen.
    pub fn advance_until<T>(
        self: &Rc<Self>,
        within: Option<Duration>,
        look: impl Fn() -> Option<T>,
    ) -> Option<T> {
        let end = within.map(|within| self.state().now.saturating_add(within));
        loop {
            let found = look();
            if found.is_some() {
                return found;
            }
            if !self.step(end.unwrap_or(Duration::MAX)) {
                self.pass_until(end.expect(FOR_EVER));
                return None;
            }
        }
    }

    /// Does the next thing: what asynchronous code has to do now, else what falls due first, at its own time. False
    /// where nothing does until the limit.
    pub fn step(self: &Rc<Self>, limit: Duration) -> bool {
        if self.run_task() {
            return true;
        }
        let end = self.state().next_end().filter(|(at, ..)| *at <= limit);
        let limit = end.map_or(limit, |(at, ..)| at);
        if let Some(Scheduled { at, code }) = self.take_scheduled(limit) {
            self.pass_until(at);
            code(self.clone());
        } else if let Some((at, index, reason)) = end {
            self.pass_until(at);
            self.state().end(index, reason);
        } else {
            return false;
        }
        true
    }

    /// The earliest piece of code that is due by `limit`; of several at one time, the one scheduled first.
    fn take_scheduled(&self, limit: Duration) -> Option<Scheduled> {
        let mut scheduled = self.scheduled.borrow_mut();
        let (index, earliest) = scheduled
            .iter()
            .enumerate()
            .min_by_key(|(index, item)| (item.at, *index))?;
        (earliest.at <= limit).then(|| scheduled.remove(index))
    }

    /// Never back: code that ran meanwhile may have slept past it.
    fn pass_until(&self, at: Duration) {
        let mut state = self.state();
        state.now = state.now.max(at);
    }
}

impl State {
    /// The next connection to end by itself: its client hangs up, or its inactivity timeout comes.
    fn next_end(&self) -> Option<(Duration, usize, CloseReason)> {
        let ends = self
            .streams
            .iter()
            .enumerate()
            .filter(|(_, stream)| stream.end.is_none());
        ends.flat_map(|(index, stream)| {
            let hang_up = stream
                .hang_up_at
                .map(|at| (at, index, CloseReason::ClientGone));
            let inactive = stream
                .inactive_at()
                .map(|at| (at, index, CloseReason::Inactive));
            [hang_up, inactive]
        })
        .flatten()
        .min_by_key(|(at, index, _)| (*at, *index))
    }
}
