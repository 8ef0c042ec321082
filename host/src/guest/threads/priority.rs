//! The priority of threads.

/// By how much threads give way (setpriority(2)): enough that whoever else wants a core has it, and not so much that a lock
/// held there is held for long.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;
/// The lowest priority that there is.
#[cfg(target_os = "linux")]
const LOWEST: i32 = 19;

/// Lowers the priority of this thread for good: for what computes for long, such as guests and their compiler.
pub fn give_way() {
    // On Linux this is the priority of one thread. Elsewhere it would be that of the process.
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{getpriority_process, setpriority_process};
        let this = Some(rustix::thread::gettid());
        // Where the thread keeps a core only for moments, its turn comes soon even at the lowest priority, so that a
        // lock held there is not held for long either. And the less a thread is due, the less do others owe it when they
        // wake: as long as they owe it something, it keeps the core until the kernel's next tick.
        let nice = match super::slice::shorten() {
            Ok(()) => LOWEST,
            Err(error) => {
                tracing::debug!(%error, "a thread that is to give way keeps a core for as long as others");
                NICE
            }
        };
        // From where it is: a node that was started with a low priority itself is not to raise it here.
        let lower = |priority: i32| (priority + nice).min(LOWEST);
        let lowered = getpriority_process(this)
            .and_then(|priority| setpriority_process(this, lower(priority)));
        if let Err(error) = lowered {
            tracing::debug!(%error, "a thread that is to give way does not");
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_thread_gives_way_to_what_started_it_whatever_priority_that_has() {
        let priority =
            || rustix::process::getpriority_process(Some(rustix::thread::gettid())).unwrap();
        thread::spawn(move || {
            for _ in 0..3 {
                let before = priority();
                give_way();
                let lower = (before + NICE).min(LOWEST);
                assert!((lower..=LOWEST).contains(&priority()));
            }
        })
        .join()
        .unwrap();
    }
}
