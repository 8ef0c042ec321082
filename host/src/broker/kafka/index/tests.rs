use super::*;
use crate::event::Data;

const MINUTE: u64 = 60_000;

/// An index that reads one record after the other.
struct Log {
    index: Index,
    offset: u64,
    time: u64,
}

impl Log {
    fn new() -> Self {
        Self::with(1 << 20)
    }

    fn with(memory: usize) -> Self {
        let retention = Retention {
            events: 3,
            age: Duration::from_secs(60),
        };
        Self {
            index: Index::new(retention, memory, 0),
            offset: 0,
            time: MINUTE,
        }
    }

    fn read(&mut self) {
        self.index.read(self.offset, self.time, self.time);
        self.offset += 1;
    }

    fn mark(&mut self, epoch: &str, base: u64, after: u64) -> bool {
        self.read();
        let mark = Mark {
            epoch: epoch.into(),
            base,
            after,
        };
        self.index.mark(mark, self.time)
    }

    /// An event with an id, or one that is given one.
    fn event(&mut self, channel: &str, id: &str) -> Taken {
        self.read();
        let mut event = Event::new(Data::Text("data".into()), 100).unwrap();
        if !id.is_empty() {
            event = event.with_id(id.into(), IdForm::Any).unwrap();
        }
        self.index.take(&name(channel), event)
    }

    fn unreadable(&mut self, channel: &str) -> u64 {
        self.read();
        self.index.take_unreadable(&name(channel))
    }

    fn page(&self, channel: &str, after: u64) -> (Vec<u64>, u64) {
        let page = self.index.page(&name(channel), after, 100, self.time);
        assert_eq!((page.through, page.more), (self.index.newest(), false));
        let positions = page.events.iter().map(|placed| placed.position);
        (positions.collect(), page.missing)
    }
}

fn name(channel: &str) -> ChannelName {
    ChannelName::new(channel).unwrap()
}

fn taken(position: u64, id: &str) -> Taken {
    Taken {
        position,
        duplicate: false,
        id: Some(id.into()),
    }
}

#[test]
fn events_have_positions_and_ids_and_are_read_by_channel() {
    let mut log = Log::new();
    assert!(!log.mark("r1", 0, 0));
    assert_eq!(log.event("x", ""), taken(2, "r1-2"));
    assert_eq!(log.event("y", "own"), taken(3, "own"));
    log.event("x", "");
    assert_eq!(log.page("x", 0), (vec![2, 4], 0));
    assert_eq!(log.page("x", 2), (vec![4], 0));
    assert_eq!(log.page("z", 0), (vec![], 0));
    let find = |channel: &str, id: &str| log.index.find(&name(channel), id);
    assert_eq!(find("x", "r1-2"), Some(2));
    assert_eq!((find("y", "own"), find("x", "own")), (Some(3), Some(3)));
    for unknown in ["r1-5", "r1-+2", "r1-0", "r2-2", "other"] {
        assert_eq!(find("x", unknown), None, "{unknown}");
    }
}

#[test]
fn pages_follow_on_one_another() {
    let mut log = Log::new();
    log.mark("r1", 0, 0);
    for _ in 0..3 {
        log.event("x", "");
    }
    let page = log.index.page(&name("x"), 0, 2, log.time);
    assert_eq!((page.through, page.more, page.events.len()), (3, true, 2));
    let page = log.index.page(&name("x"), page.through, 2, log.time);
    assert_eq!((page.through, page.more, page.events.len()), (4, false, 1));
}

#[test]
fn the_first_with_an_id_is_the_event_while_it_is_kept() {
    let mut log = Log::new();
    log.mark("r1", 0, 0);
    log.event("x", "a");
    let again = log.event("x", "a");
    assert_eq!((again.position, again.duplicate), (2, true));
    assert!(!log.event("y", "a").duplicate);
    // On two channels it is a place on these alone.
    let find = |log: &Log, channel: &str| log.index.find(&name(channel), "a");
    assert_eq!((find(&log, "y"), find(&log, "z")), (Some(4), None));
    log.time += MINUTE;
    assert!(!log.event("x", "a").duplicate);
    assert_eq!(find(&log, "z"), Some(5));
}

#[test]
fn what_is_too_much_or_too_old_is_missing() {
    let mut log = Log::new();
    log.mark("r1", 0, 0);
    for _ in 0..5 {
        log.event("x", "");
    }
    assert_eq!(log.page("x", 2), (vec![4, 5, 6], 3));
    assert_eq!(log.page("x", 3), (vec![4, 5, 6], 0));
    // Nobody has published since.
    log.time += MINUTE;
    assert_eq!(log.page("x", 4), (vec![], 6));
    assert_eq!(log.page("x", 6), (vec![], 0));
    log.event("y", "");
    assert_eq!(log.page("x", 4), (vec![], 6));
    assert!(log.index.channels.len() == 1 && log.index.oldest.len() == 1);
    log.event("x", "");
    assert_eq!(log.page("x", 5), (vec![8], 6));
}

#[test]
fn the_oldest_go_first_where_memory_is_short() {
    let mut log = Log::with(3 * EVENT_COST);
    log.mark("r1", 0, 0);
    log.event("x", "");
    log.event("y", "a");
    assert_eq!(log.page("x", 0), (vec![2], 0));
    log.event("x", "");
    assert_eq!(log.page("x", 1), (vec![4], 2));
    assert_eq!(log.page("y", 1), (vec![3], 0));
    log.event("x", "");
    assert_eq!(log.page("y", 1), (vec![], 3));
    assert!(log.index.ids.is_empty());
    assert!(log.index.cost <= 3 * EVENT_COST);
}

#[test]
fn of_two_who_name_the_log_one_has_its_way() {
    let mut log = Log::new();
    assert!(!log.mark("r1", 0, 0));
    log.event("x", "");
    // It had not seen the first one.
    assert!(!log.mark("r2", 0, 0));
    assert_eq!(log.index.epoch(), Some("r1"));
    assert_eq!(log.page("x", 0), (vec![2], 0));
    assert!(!log.mark("r1", 0, 3));
    assert_eq!(log.index.mark_again().unwrap().after, 4);
}

#[test]
fn a_new_name_begins_a_new_log_with_greater_positions() {
    let mut log = Log::new();
    log.mark("r1", 0, 0);
    log.event("x", "a");
    let anew = log.index.mark_anew(1000);
    assert_eq!((anew.base, anew.after), (998, 2));
    assert!(log.mark(&anew.epoch, anew.base, anew.after));
    assert_eq!(log.index.newest(), 1001);
    assert_eq!(log.page("x", 900), (vec![], 1001));
    assert_eq!(log.index.find(&name("x"), "a"), None);
    assert_eq!(log.index.find(&name("x"), "r1-2"), None);
    assert_eq!(log.event("x", "a").position, 1002);
    // Positions never go back.
    assert!(!log.mark("r3", 0, 4));
    assert_eq!(log.index.epoch(), Some(anew.epoch.as_str()));
}

#[test]
fn what_was_not_read_is_missing() {
    let mut log = Log::new();
    log.index = Index::new(log.index.retention, 1 << 20, 100);
    log.offset = 100;
    log.event("x", "");
    log.mark("r1", 0, 101);
    assert_eq!(log.page("x", 99), (vec![101], 100));
    assert_eq!(log.page("x", 100), (vec![101], 0));
    assert_eq!(log.page("y", 42), (vec![], 100));
}

#[test]
fn a_producer_cannot_turn_the_clock() {
    let mut log = Log::new();
    log.mark("r1", 0, 0);
    log.event("x", "");
    log.index.read(2, u64::MAX, log.time);
    assert_eq!(log.page("x", 0).0, [2]);
    log.index.read(3, 0, log.time);
    assert_eq!(log.index.time, log.time);
}

#[test]
fn an_event_that_cannot_be_read_is_missing_until_it_would_be_gone() {
    let mut log = Log::new();
    log.mark("e", 0, 0);
    let before = log.event("news", "").position;
    let unreadable = log.unreadable("news");
    let after = log.event("news", "").position;
    assert_eq!(
        log.page("news", before - 1),
        (vec![before, after], unreadable)
    );
    assert_eq!(log.page("news", unreadable), (vec![after], 0));
    // It ends a page as an event does.
    let page = log.index.page(&name("news"), before, 1, log.time);
    assert_eq!(
        (page.events, page.missing, page.through, page.more),
        (vec![], unreadable, unreadable, true)
    );
    // Of which nothing is known but that.
    assert_eq!(log.unreadable("weather"), log.index.newest());
    assert_eq!(log.page("weather", after), (vec![], log.index.newest()));
    log.time += MINUTE;
    log.event("news", "");
    assert_eq!(log.page("weather", after).1, log.index.newest() - 1);
}

#[test]
fn of_another_log_only_what_may_be_missing_is_told_as_a_gap() {
    // The first node named it, with positions above those that it had told of the one before.
    let log = || {
        let mut log = Log::new();
        log.event("news", "");
        log.mark("new", 100, 0);
        for _ in 0..2 {
            log.event("news", "");
        }
        log
    };
    // This node had heard less of the old one: what came before the name may not be all.
    let mut less = log();
    less.index.forget_up_to(99);
    assert_eq!(less.page("news", 99), (vec![103, 104], 102));
    assert_eq!(less.page("news", 103), (vec![104], 0));
    // This one had heard more: positions up to there are of other events for who heard them.
    let mut more = log();
    more.index.forget_up_to(102);
    assert_eq!(more.page("news", 102), (vec![104], 103));
    assert_eq!(more.page("news", 103), (vec![104], 0));
    assert_eq!(more.page("sport", 102), (vec![], 103));
}
