//! What an app may take: the names of its limits and how often each was reached; memory, and time on the CPU.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use wasmtime::ResourceLimiter;

use super::threads::{self, thread_cpu_time};

/// What an element of a table costs the host, at most.
const TABLE_ELEMENT_BYTES: usize = 16;
/// Memories, tables and core instances of one instance. Each memory takes gigabytes of address space, however little of
/// it is used.
pub const MEMORIES: usize = 2;
/// See [`MEMORIES`].
pub const TABLES: usize = 10;
const INSTANCES: usize = 500;

/// A limit of an app, as the configuration names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Memory of an instance.
    Memory,
    /// Memory of all instances.
    TotalMemory,
    /// Time on the CPU of a call.
    CpuTime,
    /// Time of a call.
    WallTime,
    /// Calls in flight, and those that wait for one to end.
    Calls,
    /// Open streams.
    Connections,
    /// Channels that a connection hears.
    ChannelsPerConnection,
    /// Data of an event.
    EventData,
    /// Body of an answer.
    ResponseBody,
    /// Entries of the registry.
    RegistryEntries,
    /// Bytes of the registry.
    RegistryBytes,
    /// Handles of an instance.
    Handles,
    /// Bytes that one call of the host takes.
    HostCallBytes,
    /// Lines of the log in a second.
    LogLines,
}

impl Limit {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Memory,
        Self::TotalMemory,
        Self::CpuTime,
        Self::WallTime,
        Self::Calls,
        Self::Connections,
        Self::ChannelsPerConnection,
        Self::EventData,
        Self::ResponseBody,
        Self::RegistryEntries,
        Self::RegistryBytes,
        Self::Handles,
        Self::HostCallBytes,
        Self::LogLines,
    ];

    /// The name of the setting.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::TotalMemory => "total-memory",
            Self::CpuTime => "cpu-time",
            Self::WallTime => "wall-time",
            Self::Calls => "calls",
            Self::Connections => "connections",
            Self::ChannelsPerConnection => "channels-per-connection",
            Self::EventData => "event-data",
            Self::ResponseBody => "response-body",
            Self::RegistryEntries => "registry-entries",
            Self::RegistryBytes => "registry-bytes",
            Self::Handles => "handles",
            Self::HostCallBytes => "host-call-bytes",
            Self::LogLines => "log-lines",
        }
    }

    /// The limit of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|limit| limit.name() == name)
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.name())
    }
}

/// How often an app has reached each of its limits.
#[derive(Debug, Default)]
pub struct Reached([AtomicU64; Limit::ALL.len()]);

impl Reached {
    /// Counts that a limit was reached.
    pub fn count(&self, limit: Limit) {
        self.0[limit as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often each was reached.
    pub fn figures(&self) -> [(Limit, u64); Limit::ALL.len()] {
        Limit::ALL.map(|limit| (limit, self.0[limit as usize].load(Ordering::Relaxed)))
    }
}

/// The memory of all instances of an app.
#[derive(Debug)]
pub struct AppMemory {
    limit: usize,
    used: AtomicUsize,
}

/// Bounds the memories and tables of one store together, and with those of the app's other stores.
#[derive(Debug)]
pub struct MemoryLimit {
    limit: usize,
    used: usize,
    app: Arc<AppMemory>,
    /// The limit at which the guest was refused memory: what follows is usually its own abort, which says nothing of
    /// why.
    pub refused: Option<Limit>,
}

impl AppMemory {
    /// Memory of at most so many bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            used: AtomicUsize::new(0),
        }
    }

    fn take(&self, bytes: usize) -> bool {
        let taken = |used: usize| used.checked_add(bytes).filter(|used| *used <= self.limit);
        let order = Ordering::Relaxed;
        self.used.fetch_update(order, order, taken).is_ok()
    }
}

impl MemoryLimit {
    /// Memories of at most so many bytes together.
    pub fn new(limit: usize, app: Arc<AppMemory>) -> Self {
        Self {
            limit,
            used: 0,
            app,
            refused: None,
        }
    }

    fn grow(&mut self, bytes: usize) -> bool {
        let used = self.used.saturating_add(bytes);
        if used > self.limit {
            self.refused = Some(Limit::Memory);
        } else if !self.app.take(bytes) {
            self.refused = Some(Limit::TotalMemory);
        } else {
            self.used = used;
            return true;
        }
        false
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        self.app.used.fetch_sub(self.used, Ordering::Relaxed);
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
/// every tick of the engine's epoch. Time that a guest waits is not counted.
#[derive(Debug)]
pub struct CpuLimited<F> {
    future: Pin<Box<F>>,
    limit: Duration,
    used: Duration,
    /// The time begins anew where it is [renewed](threads::renewed).
    of_each_round: bool,
}

/// The time is used up. The future was dropped where it stood.
#[derive(Debug, PartialEq, Eq)]
pub struct CpuTimeUsedUp;

impl<F: Future> CpuLimited<F> {
    /// Gives the future so much time.
    pub fn new(future: F, limit: Duration) -> Self {
        Self {
            future: Box::pin(future),
            limit,
            used: Duration::ZERO,
            of_each_round: false,
        }
    }

    /// Gives it so much time, and again so much whenever it is [renewed](threads::renewed).
    pub fn of_each_round(future: F, limit: Duration) -> Self {
        Self {
            of_each_round: true,
            ..Self::new(future, limit)
        }
    }
}

impl<F: Future> Future for CpuLimited<F> {
    type Output = Result<F::Output, CpuTimeUsedUp>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let start = threads::cpu_before_turn().unwrap_or_else(thread_cpu_time);
        if let Poll::Ready(output) = self.future.as_mut().poll(context) {
            return Poll::Ready(Ok(output));
        }
        if self.of_each_round && threads::has_renewed() {
            self.used = Duration::ZERO;
        }
        self.used += thread_cpu_time().saturating_sub(start);
        match self.used > self.limit {
            true => Poll::Ready(Err(CpuTimeUsedUp)),
            false => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Handle;

    use super::{
        super::{threads::Threads, ticker::Ticker},
        *,
    };

    #[test]
    fn memories_and_tables_are_summed() {
        let app = Arc::new(AppMemory::new(150));
        let mut limit = MemoryLimit::new(100, app.clone());
        assert!(limit.memory_growing(0, 60, None).unwrap());
        assert!(limit.memory_growing(0, 24, None).unwrap());
        assert!(limit.table_growing(0, 1, None).unwrap());
        assert_eq!(limit.refused, None);
        assert!(!limit.memory_growing(60, 61, None).unwrap());
        assert_eq!(limit.refused, Some(Limit::Memory));

        let mut other = MemoryLimit::new(100, app);
        assert!(other.memory_growing(0, 50, None).unwrap());
        assert!(!other.memory_growing(50, 51, None).unwrap());
        assert_eq!(other.refused, Some(Limit::TotalMemory));
        drop(limit);
        assert!(other.memory_growing(50, 51, None).unwrap());
    }

    /// Computes until its thread has had a core for two milliseconds more.
    fn spin() {
        let begun = thread_cpu_time();
        while thread_cpu_time() < begun + Duration::from_millis(2) {
            std::hint::spin_loop();
        }
    }

    #[tokio::test]
    async fn waiting_is_free_and_spinning_is_not() {
        let before = thread_cpu_time();
        let mut waits = CpuLimited::new(std::future::pending::<()>(), Duration::MAX);
        for _ in 0..2 {
            assert!(futures_util::poll!(&mut waits).is_pending());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(waits.used <= thread_cpu_time() - before);

        let limit = Duration::from_millis(10);
        let computing = async {
            loop {
                spin();
                tokio::task::yield_now().await;
            }
        };
        let spun: Result<(), _> = CpuLimited::new(computing, limit).await;
        assert_eq!(spun, Err(CpuTimeUsedUp));
    }

    #[tokio::test]
    async fn each_round_has_the_time_anew() {
        let mut polls = 0;
        let rounds = std::future::poll_fn(move |context| {
            polls += 1;
            spin();
            if polls % 3 == 0 {
                threads::renewed();
            }
            context.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        let mut limited = CpuLimited::of_each_round(rounds, Duration::MAX);
        let watched = async move {
            for poll in 1..=9 {
                let before = limited.used;
                let turn = threads::cpu_before_turn().unwrap();
                assert!(futures_util::poll!(&mut limited).is_pending());
                // It counts from the same time on, and has stopped before.
                let of_this_poll = thread_cpu_time() - turn;
                match poll % 3 {
                    0 => assert!(limited.used <= of_this_poll),
                    _ => assert!(limited.used > before),
                }
                tokio::task::yield_now().await;
            }
        };
        let ticker = Ticker::start(&[]).unwrap();
        let threads = Threads::start(&Handle::current(), &ticker).unwrap();
        threads.lane().spawn(watched).await.unwrap();
    }

    #[test]
    fn limits_have_the_names_of_settings_and_are_counted_apart() {
        let reached = Reached::default();
        for (number, limit) in Limit::ALL.into_iter().enumerate() {
            assert_eq!(limit as usize, number);
            assert_eq!(Limit::named(limit.name()), Some(limit));
        }
        reached.count(Limit::Handles);
        reached.count(Limit::Handles);
        let figures = reached.figures();
        let counted: Vec<_> = figures.iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [&(Limit::Handles, 2)]);
    }
}
