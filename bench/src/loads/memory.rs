//! What a server has in memory, once nothing happens and while something does.

use std::{
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::contenders::Server;

/// How long memory may take to settle.
const PATIENCE: Duration = Duration::from_secs(20);

/// The memory of a server, once it has [settled](settle).
pub fn settled(server: &dyn Server) -> Result<u64> {
    settle(|| server.process().memory())
}

/// Bytes, once three looks in a row, half a second apart, differ by less than 1 in 200.
pub fn settle(look: impl Fn() -> Result<u64>) -> Result<u64> {
    let start = Instant::now();
    let mut looks = Vec::new();
    loop {
        looks.push(look()?);
        if let [.., first, second, third] = looks[..] {
            let most = first.max(second).max(third);
            let least = first.min(second).min(third);
            if (most - least) * 200 < most || start.elapsed() > PATIENCE {
                return Ok(third);
            }
        }
        thread::sleep(Duration::from_millis(500));
    }
}

/// The memory every so often while something is done, and what came of that.
pub fn during<T>(
    server: &dyn Server,
    every: Duration,
    work: impl FnOnce() -> Result<T>,
) -> Result<(Vec<u64>, T)> {
    thread::scope(|scope| {
        let (done, is_done) = mpsc::channel::<()>();
        let looking = scope.spawn(move || {
            let mut looks = vec![server.process().memory()?];
            while is_done.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                looks.push(server.process().memory()?);
            }
            anyhow::Ok(looks)
        });
        let worked = work();
        drop(done);
        let looks = looking.join().ok().context("looking panicked")?;
        Ok((looks?, worked?))
    })
}
