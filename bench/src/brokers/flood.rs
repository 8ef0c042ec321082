//! Publishing as fast as it goes: many callers for some time, each one event after another.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;

/// Callers that publish at a time.
pub const CALLERS: usize = 256;

/// How long it is published.
#[derive(Clone, Copy, Debug)]
pub struct Flood {
    /// For so long.
    pub time: Duration,
    /// So many are accepted of the broker in that time, for a program that wants to know how many it is to publish.
    pub events: usize,
}

impl Flood {
    /// Publishes, and returns how many events were accepted in a second. The function is given the caller's number.
    pub async fn run<F>(&self, publish: impl Fn(usize) -> F + Clone + Send + 'static) -> Result<f64>
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let (begun, accepted) = (Instant::now(), Arc::<AtomicUsize>::default());
        let end = begun + self.time;
        let callers = (0..CALLERS).map(|caller| {
            let (publish, accepted) = (publish.clone(), accepted.clone());
            tokio::spawn(async move {
                while Instant::now() < end {
                    publish(caller).await?;
                    accepted.fetch_add(1, Ordering::Relaxed);
                }
                anyhow::Ok(())
            })
        });
        for caller in callers.collect::<Vec<_>>() {
            caller.await??;
        }
        Ok(accepted.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64())
    }
}
