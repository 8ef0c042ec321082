//! For how long a thread keeps a core before others are looked at.
//!
//! A thread that has a core keeps it for a slice of some milliseconds, however low its priority is: whoever wakes meanwhile
//! waits. Measured with guests that compute on both cores of a machine, a request of another app waited for up to 4 ms
//! because of that. Linux 6.12 lets a thread choose its slice (sched_setattr(2)), and no crate passes that on.

#![allow(unsafe_code)]

use std::{io, mem};

/// The slice, in nanoseconds: the shortest that there is.
const SLICE: u64 = 100_000;

/// What the kernel is told of a thread: `struct sched_attr`, as long as its first version.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

const SIZE: u32 = mem::size_of::<Attributes>() as u32;

/// Gives this thread the shortest slice. Fails where the kernel has none to choose, or the thread is not an ordinary one.
pub fn shorten() -> io::Result<()> {
    let before = get()?;
    if before.policy != libc::SCHED_OTHER as u32 {
        return Err(io::Error::other("it is scheduled by another policy"));
    }
    set(Attributes {
        size: SIZE,
        nice: before.nice,
        runtime: SLICE,
        ..Attributes::default()
    })?;
    // Older kernels take it and do nothing.
    match get()?.runtime {
        SLICE => Ok(()),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

fn get() -> io::Result<Attributes> {
    let mut attributes = Attributes::default();
    // SAFETY: the kernel writes at most the size that it is told, which is that of what the pointer points to; any bytes
    // are valid for its fields. It is the calling thread that is asked about (0).
    let done = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, SIZE, 0) };
    checked(done).map(|()| attributes)
}

fn set(attributes: Attributes) -> io::Result<()> {
    // SAFETY: the kernel reads as many bytes as the first field says, which is the size of what the pointer points to.
    // Only how the calling thread (0) is scheduled changes.
    let done = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    checked(done)
}

fn checked(done: libc::c_long) -> io::Result<()> {
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_has_the_slice_and_its_priority_and_others_stay_as_they_are() {
        let before = get().unwrap();
        std::thread::spawn(move || {
            let set = shorten();
            let after = get().unwrap();
            assert_eq!((after.policy, after.nice), (before.policy, before.nice));
            // Where the kernel has none, it says so.
            assert_eq!(set.is_ok(), after.runtime == SLICE, "{set:?} {after:?}");
        })
        .join()
        .unwrap();
        assert_eq!(get().unwrap().runtime, before.runtime);
    }
}
