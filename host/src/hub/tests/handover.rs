//! The hand-over to a shard, in every order that two senders and the receiver can have.
//!
//! It is the file of the server, with the locks of the model checker in the place of its own.

#[path = "../delivery/inbox.rs"]
#[expect(
    clippy::duplicate_mod,
    reason = "with other primitives it is another module"
)]
mod inbox;

use loom::{
    model,
    model::Builder,
    sync::{Arc, Condvar, Mutex},
    thread,
};

use self::inbox::Inbox;

/// The primitives of the model.
mod sync {
    use loom::sync::MutexGuard;

    #[derive(Debug)]
    pub(super) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(super) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(super) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap()
        }
    }
}

/// What wakes a receiver, as a poll is woken: also by one that came before it slept.
#[derive(Debug, Default)]
struct Waker {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Waker {
    fn wake(&self) {
        *self.woken.lock().unwrap() = true;
        self.changed.notify_one();
    }

    fn wait(&self) {
        let mut woken = self.woken.lock().unwrap();
        while !*woken {
            woken = self.changed.wait(woken).unwrap();
        }
        *woken = false;
    }
}

/// Senders that each hand over so many things, and a receiver that sleeps whenever it may.
fn hand_over(senders: u8, things: u8) {
    let inbox = Arc::new(Inbox::new());
    let waker = Arc::new(Waker::default());
    for sender in 0..senders {
        let (inbox, waker) = (inbox.clone(), waker.clone());
        thread::spawn(move || {
            for thing in 0..things {
                if inbox.push((sender, thing)) {
                    waker.wake();
                }
            }
        });
    }
    let mut received = Vec::new();
    let mut taken = Vec::new();
    // Whoever is left asleep with something in the inbox never comes out of this: the model checker says so.
    while received.len() < usize::from(senders * things) {
        if inbox.sleep() {
            waker.wait();
        }
        inbox.awake();
        inbox.take(&mut taken);
        received.append(&mut taken);
    }
    for sender in 0..senders {
        let of_sender = received.iter().filter(|thing| thing.0 == sender);
        assert!(of_sender.map(|thing| thing.1).eq(0..things));
    }
}

#[test]
fn a_receiver_never_sleeps_on_what_one_sender_told() {
    model(|| hand_over(1, 3));
}

#[test]
fn a_receiver_never_sleeps_on_what_two_senders_told() {
    // All orders would take hours; those in which threads are interrupted so often already find what can be wrong.
    let mut few = Builder::new();
    few.preemption_bound = Some(3);
    few.check(|| hand_over(2, 2));
}

/// The same, where senders do what they told themselves if nobody else is at it and the receiver sleeps.
fn hand_over_or_do(senders: u8, things: u8) {
    let inbox = Arc::new(Inbox::new());
    let waker = Arc::new(Waker::default());
    let done = Arc::new(Mutex::new(Vec::new()));
    let all = usize::from(senders * things);
    for sender in 0..senders {
        let (inbox, waker, done) = (inbox.clone(), waker.clone(), done.clone());
        thread::spawn(move || {
            for thing in 0..things {
                if inbox.push((sender, thing)) {
                    let sleeps_on = done.try_lock().is_ok_and(|mut done| {
                        take_into(&inbox, &mut done);
                        // The end is the receiver's.
                        done.len() < all && inbox.sleep()
                    });
                    if !sleeps_on {
                        waker.wake();
                    }
                }
            }
        });
    }
    loop {
        let sleeps = {
            let done = done.lock().unwrap();
            if done.len() == all {
                break;
            }
            inbox.sleep()
        };
        if sleeps {
            waker.wait();
        }
        inbox.awake();
        take_into(&inbox, &mut done.lock().unwrap());
    }
    let done = done.lock().unwrap();
    for sender in 0..senders {
        let of_sender = done.iter().filter(|thing| thing.0 == sender);
        assert!(of_sender.map(|thing| thing.1).eq(0..things));
    }
}

fn take_into(inbox: &Inbox<(u8, u8)>, done: &mut Vec<(u8, u8)>) {
    let mut taken = Vec::new();
    inbox.take(&mut taken);
    done.append(&mut taken);
}

#[test]
fn nothing_is_left_where_one_sender_does_what_it_told() {
    model(|| hand_over_or_do(1, 3));
}

#[test]
fn nothing_is_left_where_two_senders_do_what_they_told() {
    let mut few = Builder::new();
    few.preemption_bound = Some(3);
    few.check(|| hand_over_or_do(2, 2));
}

#[test]
fn only_one_of_those_who_tell_a_sleeping_receiver_wakes_it() {
    model(|| {
        let inbox = Arc::new(Inbox::new());
        assert!(inbox.sleep());
        let other = inbox.clone();
        let woken = thread::spawn(move || u8::from(other.push(1)));
        let woken = u8::from(inbox.push(2)) + woken.join().unwrap();
        assert_eq!(woken, 1);
    });
}
