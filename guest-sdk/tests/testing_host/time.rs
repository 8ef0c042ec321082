//! The clock of a test.

use super::*;

#[test]
fn what_falls_due_happens_in_its_order() {
    let host = Host::new();
    let seen = Rc::new(RefCell::new(Vec::new()));
    for seconds in [3, 1, 2, 1, 9] {
        let seen = seen.clone();
        host.after(Duration::from_secs(seconds), move |host| {
            seen.borrow_mut().push((seconds, host.elapsed().as_secs()));
            host.run(|| sleep(Duration::from_millis(1500)));
        });
    }
    host.advance(Duration::from_secs(4));
    // Code that sleeps lets the rest fall due inside its own sleep.
    assert_eq!(*seen.borrow(), [(1, 1), (1, 1), (2, 2), (3, 3)]);
    host.advance(Duration::from_secs(10));
    assert_eq!(seen.borrow().len(), 5);
}

#[test]
#[should_panic(expected = "no host runs it")]
fn outside_of_a_host_there_is_none() {
    sleep(Duration::ZERO);
}
