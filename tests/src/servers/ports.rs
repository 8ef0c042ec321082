//! Free ports: for servers that are started more than once, and for addresses where nobody is.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    ops::Range,
    sync::{
        OnceLock,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

/// Below those that systems hand out by themselves (Linux from 32768 on, macOS from 49152), so that nobody who asks for
/// any port gets this one while its server is about to start, or stopped.
const RANGE: Range<u16> = 10_000..32_000;

/// How long a port may take to refuse: who does not answer is somebody.
const PATIENCE: Duration = Duration::from_secs(1);

/// A port of loopback on which nobody listens, and which this process gets only once.
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
        .find(|port| is_free(*port))
        .expect("a port is free")
}

/// Asks who is there. To listen there for a moment would tell as well, but a process that another test starts in that
/// moment has a copy of the socket until it runs its program, and keeps the port taken for as long.
fn is_free(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let answer = TcpStream::connect_timeout(&address, PATIENCE);
    answer.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, net::TcpListener, process::Command, thread};

    use super::*;
    use crate::wait;

    #[test]
    fn no_port_comes_twice_and_each_is_free() {
        let ports: Vec<u16> = (0..100).map(|_| free()).collect();
        assert_eq!(ports.iter().collect::<HashSet<_>>().len(), ports.len());
        assert!(ports.iter().all(|port| RANGE.contains(port)));
    }

    #[test]
    fn a_port_where_somebody_listens_is_not_free() {
        let port = free();
        let taken = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        assert!(!is_free(port));
        drop(taken);
        // A copy of the socket may live for a moment.
        wait::until_true("the port is free again", || is_free(port));
    }

    #[test]
    fn ports_stay_free_while_others_start_processes() {
        thread::scope(|scope| {
            let others = scope.spawn(|| {
                for _ in 0..100 {
                    let ended = Command::new("true").status().expect("it starts");
                    assert!(ended.success());
                }
            });
            while !others.is_finished() {
                TcpListener::bind(("127.0.0.1", free())).expect("the port is free");
            }
        });
    }
}
