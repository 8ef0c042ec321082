//! Free ports for servers that are started more than once.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    net::TcpStream,
    ops::Range,
    sync::{
        OnceLock,
        atomic::{AtomicU16, Ordering},
    },
};

/// Below those that systems hand out by themselves (Linux from 32768 on, macOS from 49152), so that nobody who asks for
/// any port gets this one while its server is about to start, or stopped.
const RANGE: Range<u16> = 10_000..32_000;

/// A port of loopback on which nobody listens, and which this process gets only once.
///
/// It is found by asking who is there, not by listening for a moment: a process that another test starts in that moment
/// has a copy of the socket until it runs its program, and keeps the port taken for as long.
///
/// # Panics
///
/// Where none is left.
#[track_caller]
pub fn free() -> u16 {
    /// Anywhere, so that other processes that do the same begin elsewhere.
    static NEXT: OnceLock<AtomicU16> = OnceLock::new();
    let next = NEXT.get_or_init(|| {
        let random = RandomState::new().build_hasher().finish() % RANGE.len() as u64;
        AtomicU16::new(RANGE.start + u16::try_from(random).expect("the range is smaller"))
    });
    let step = |port| {
        Some(if port + 1 < RANGE.end {
            port + 1
        } else {
            RANGE.start
        })
    };
    RANGE
        .map(|_| {
            next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step)
                .expect("there is always a next")
        })
        .find(|port| TcpStream::connect(("127.0.0.1", *port)).is_err())
        .expect("a port is free")
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashSet, net::TcpListener, process::Command, sync::atomic::AtomicBool, thread,
    };

    use super::*;

    #[test]
    fn no_port_comes_twice_and_each_is_free() {
        let ports: Vec<u16> = (0..100).map(|_| free()).collect();
        assert_eq!(ports.iter().collect::<HashSet<_>>().len(), ports.len());
        assert!(ports.iter().all(|port| RANGE.contains(port)));
        let taken = TcpListener::bind(("127.0.0.1", free())).expect("the port is free");
        let taken = taken.local_addr().expect("an address").port();
        assert!((0..100).all(|_| free() != taken));
    }
    #[test]
    fn ports_stay_free_while_others_start_processes() {
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let others = scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let ended = Command::new("true").status().expect("it starts");
                    assert!(ended.success());
                }
            });
            let taken = (0..2_000).filter_map(|_| TcpListener::bind(("127.0.0.1", free())).err());
            let taken: Vec<_> = taken.collect();
            done.store(true, Ordering::Relaxed);
            others.join().expect("they start");
            assert!(taken.is_empty(), "{taken:?}");
        });
    }
}
