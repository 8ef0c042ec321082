//! A bell in a static: what calls of one instance share.

use std::{
    cell::RefCell,
    future::poll_fn,
    task::{Poll, Waker},
};

thread_local! {
    /// How often it rang, and who waits for the next time.
    static BELL: RefCell<(u64, Vec<Waker>)> = const { RefCell::new((0, Vec::new())) };
}

/// Waits until somebody rings.
pub(crate) async fn heard() {
    let before = BELL.with_borrow(|(rings, _)| *rings);
    poll_fn(|context| {
        BELL.with_borrow_mut(|(rings, waiting)| {
            if *rings > before {
                return Poll::Ready(());
            }
            if !waiting.iter().any(|known| known.will_wake(context.waker())) {
                waiting.push(context.waker().clone());
            }
            Poll::Pending
        })
    })
    .await;
}

/// Rings, and returns how many waited in this instance.
pub(crate) fn ring() -> usize {
    let waiting = BELL.with_borrow_mut(|(rings, waiting)| {
        *rings += 1;
        std::mem::take(waiting)
    });
    let count = waiting.len();
    waiting.into_iter().for_each(Waker::wake);
    count
}
