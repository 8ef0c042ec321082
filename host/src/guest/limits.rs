//! What one call may use: memory, and time on the CPU.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use wasmtime::ResourceLimiter;

/// What an element of a table costs the host, at most.
const TABLE_ELEMENT_BYTES: usize = 16;
/// Memories, tables and core instances of one component. Each memory takes gigabytes of address space, however
/// little of it is used.
const MEMORIES: usize = 20;
const TABLES: usize = 200;
const INSTANCES: usize = 500;

/// Bounds the memories and tables of one store together.
#[derive(Debug)]
pub struct MemoryLimit {
    limit: usize,
    used: usize,
    /// Set when the guest was refused memory: what follows is usually its own abort, which says nothing of why.
    pub refused: bool,
}

impl MemoryLimit {
    /// Memories of at most so many bytes together.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            used: 0,
            refused: false,
        }
    }

    fn grow(&mut self, bytes: usize) -> bool {
        let used = self.used.saturating_add(bytes);
        self.refused |= used > self.limit;
        if used <= self.limit {
            self.used = used;
        }
        used <= self.limit
    }
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.grow(desired.saturating_sub(current)))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let elements = desired.saturating_sub(current);
        Ok(self.grow(elements.saturating_mul(TABLE_ELEMENT_BYTES)))
    }

    fn memories(&self) -> usize {
        MEMORIES
    }

    fn tables(&self) -> usize {
        TABLES
    }

    fn instances(&self) -> usize {
        INSTANCES
    }
}

/// A future that is given so much time on the CPU. It has to return from `poll` now and then: guests do, at
/// every tick of the engine's epoch.
///
/// Time that a guest waits is not counted. The time on the clock during `poll` is taken for time on the CPU: on a
/// machine so busy that this differs much, a limit that is too strict by as much is the smaller harm.
#[derive(Debug)]
pub struct CpuLimited<F> {
    future: Pin<Box<F>>,
    left: Duration,
}

/// The time is used up. The future was dropped where it stood.
#[derive(Debug, PartialEq, Eq)]
pub struct CpuTimeUsedUp;

impl<F: Future> CpuLimited<F> {
    /// Gives the future so much time.
    pub fn new(future: F, limit: Duration) -> Self {
        Self {
            future: Box::pin(future),
            left: limit,
        }
    }
}

impl<F: Future> Future for CpuLimited<F> {
    type Output = Result<F::Output, CpuTimeUsedUp>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let start = Instant::now();
        if let Poll::Ready(output) = self.future.as_mut().poll(context) {
            return Poll::Ready(Ok(output));
        }
        match self.left.checked_sub(start.elapsed()) {
            Some(left) => {
                self.left = left;
                Poll::Pending
            }
            None => Poll::Ready(Err(CpuTimeUsedUp)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_and_tables_are_summed() {
        let mut limit = MemoryLimit::new(100);
        assert!(limit.memory_growing(0, 60, None).unwrap());
        assert!(limit.memory_growing(0, 24, None).unwrap());
        assert!(limit.table_growing(0, 1, None).unwrap());
        assert!(!limit.refused);
        assert!(!limit.memory_growing(60, 61, None).unwrap());
        assert!(limit.refused);
    }

    #[tokio::test]
    async fn waiting_is_free_and_spinning_is_not() {
        let wait = tokio::time::sleep(Duration::from_millis(30));
        assert_eq!(
            CpuLimited::new(wait, Duration::from_millis(10)).await,
            Ok(())
        );
        let spin = async {
            loop {
                std::thread::sleep(Duration::from_millis(2));
                tokio::task::yield_now().await;
            }
        };
        let spun: Result<(), _> = CpuLimited::new(spin, Duration::from_millis(10)).await;
        assert_eq!(spun, Err(CpuTimeUsedUp));
    }
}
