//! A file that one process has locked at a time.

use std::{
    fs::{File, TryLockError},
    thread,
    time::{Duration, Instant},
};

/// How often it is looked whether another one has let go.
const LOOK: Duration = Duration::from_millis(20);

/// A locked file (flock(2)). It is unlocked when this is dropped, or when the process ends.
#[derive(Debug)]
pub struct Locked(File);

impl Locked {
    /// Locks a file. Where another one has it locked, it is waited for that long: that one may be about to end.
    pub fn new(file: File, patience: Duration) -> Result<Self, TryLockError> {
        let begun = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self(file)),
                Err(TryLockError::WouldBlock) if begun.elapsed() < patience => thread::sleep(LOOK),
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for Locked {
    /// To close the file would not do: a process that is being started has a copy of it, and so the lock, until it runs
    /// its program.
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::debug!(%error, "a file stays locked until it is closed everywhere");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn one_has_it_at_a_time_and_it_is_free_when_dropped_whatever_processes_are_started() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let lock = || Locked::new(file.reopen().unwrap(), Duration::ZERO);
        thread::scope(|scope| {
            let others = scope.spawn(|| {
                for _ in 0..100 {
                    Command::new("true").status().unwrap();
                }
            });
            while !others.is_finished() {
                lock().unwrap();
            }
        });
        let held = lock().unwrap();
        assert!(matches!(lock(), Err(TryLockError::WouldBlock)));
        thread::scope(|scope| {
            let waits =
                scope.spawn(|| Locked::new(file.reopen().unwrap(), Duration::from_secs(60)));
            drop(held);
            waits.join().unwrap().unwrap();
        });
    }
}
