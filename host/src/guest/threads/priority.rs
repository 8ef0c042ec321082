//! The priority of threads.

/// By how much threads give way (setpriority(2)): enough that whoever else wants a core has it, and not so much that a lock
/// held there is held for long.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;
/// The same for threads that keep a core only for moments: their turn comes sooner. The less a thread is due, the sooner
/// do others that wake owe it nothing; as long as they do, it keeps the core until the kernel's next tick.
#[cfg(target_os = "linux")]
const NICER: i32 = 15;
/// The lowest priority that there is.
#[cfg(target_os = "linux")]
const LOWEST: i32 = 19;

/// Lowers the priority of this thread for good: for what computes for long, such as compilers.
pub fn give_way() {
    // On Linux this is the priority of one thread. Elsewhere it would be that of the process.
    #[cfg(target_os = "linux")]
    lower(NICE);
}

/// The same for guests that compute: they let go of a core as soon as another thread wakes, where the kernel can do that.
pub fn give_way_at_once() {
    #[cfg(target_os = "linux")]
    lower(match super::slice::shorten() {
        Ok(()) => NICER,
        Err(error) => {
            tracing::debug!(%error, "a thread that is to give way keeps a core for as long as others");
            NICE
        }
    });
}

#[cfg(target_os = "linux")]
fn lower(nice: i32) {
    use rustix::process::{getpriority_process, setpriority_process};
    let this = Some(rustix::thread::gettid());
    // From where it is: a node that was started with a low priority itself is not to raise it here.
    let lowered = getpriority_process(this)
        .and_then(|priority| setpriority_process(this, (priority + nice).min(LOWEST)));
    if let Err(error) = lowered {
        tracing::debug!(%error, "a thread that is to give way does not");
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
                assert_eq!(priority(), (before + NICE).min(LOWEST));
            }
        })
        .join()
        .unwrap();
        thread::spawn(move || {
            let before = priority();
            give_way_at_once();
            let lower = |nice: i32| (before + nice).min(LOWEST);
            assert!([lower(NICE), lower(NICER)].contains(&priority()));
        })
        .join()
        .unwrap();
    }
}
