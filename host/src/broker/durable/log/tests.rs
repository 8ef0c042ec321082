use super::{
    super::testing::{EVENT_DATA, TestFile, TestLog, publication},
    *,
};

const AGE: Duration = Duration::from_secs(600);

/// All that is due is done.
fn tidy(log: &mut TestLog) -> Duration {
    loop {
        if let Chores::After(time) = log.log.chores().unwrap() {
            return time;
        }
    }
}

/// How a node ends.
#[derive(Debug)]
enum End {
    Killed,
    /// After a while in which nothing was published.
    KilledIdle,
    Closed,
}

fn execute(log: &TestLog, change: &str) {
    log.log.connection().execute_batch(change).unwrap();
}

#[test]
fn positions_grow_over_all_channels_and_restarts() {
    let file = TestFile::new();
    let (mut positions, mut epochs) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let mut log = file.log(10, AGE);
        if let Some(last) = positions.last() {
            assert_eq!(log.log.last(), *last);
        }
        for channel in ["x", "y", "x"] {
            positions.push(log.append(channel, None, "").position);
        }
        let batch: Vec<_> = (0..300).map(|_| publication("z", None, "")).collect();
        positions.extend(
            log.log
                .append(&batch)
                .unwrap()
                .iter()
                .map(|kept| kept.position),
        );
        epochs.push(log.log.epoch().to_owned());
        // Some ends are sudden.
        if epochs.len() == 2 {
            log.close();
        }
    }
    assert!(positions.is_sorted_by(|a, b| a < b));
    assert_eq!((&epochs[0], &epochs[0]), (&epochs[1], &epochs[2]));
    let other = TestFile::new();
    assert_ne!(other.log(10, AGE).log.epoch(), epochs[0]);
}

#[test]
fn positions_grow_although_the_clock_was_ahead() {
    let file = TestFile::new();
    let mut log = file.log(10, AGE);
    log.append("news", None, "0");
    let ahead = now() + 3600 * 1_000_000;
    execute(&log, &format!("UPDATE log SET last = {ahead}"));
    drop(log);
    let mut log = file.log(10, AGE);
    assert_eq!(log.append_some("news", 2), [ahead + 1, ahead + 2]);
    let page = log.read("news", ahead, 10);
    assert_eq!(page.events[1].age, Duration::ZERO);
}

#[test]
fn each_channel_keeps_so_many_and_tells_what_is_missing() {
    let file = TestFile::new();
    let mut log = file.log(3, AGE);
    let other = log.append("other", None, "").position;
    let p = log.append_some("news", 8);
    assert_eq!(log.rows("events"), 4);
    assert_eq!(log.after("news", 0), (p[5..].to_vec(), p[4]));
    assert_eq!(log.after("news", other), (p[5..].to_vec(), p[4]));
    assert_eq!(log.after("news", p[3]), (p[5..].to_vec(), p[4]));
    assert_eq!(log.after("news", p[4]), (p[5..].to_vec(), 0));
    assert_eq!(log.after("news", p[6]), (p[7..].to_vec(), 0));
    assert_eq!(log.after("news", p[7]), (vec![], 0));
    assert_eq!(log.after("news", u64::MAX), (vec![], 0));
    assert_eq!(log.after("other", other), (vec![], 0));
    assert_eq!(log.after("nobody's", other), (vec![], 0));
    // More at a time than it keeps.
    let batch: Vec<_> = (0..7).map(|_| publication("news", None, "")).collect();
    let q: Vec<_> = log.log.append(&batch).unwrap();
    let q: Vec<_> = q.iter().map(|kept| kept.position).collect();
    assert_eq!(log.after("news", p[7]), (q[4..].to_vec(), q[3]));
    // Fewer than before.
    drop(log);
    let mut log = file.log(1, AGE);
    let last = log.append("news", None, "").position;
    assert_eq!(log.after("news", q[5]), (vec![last], q[6]));
    assert_eq!(log.rows("events"), 2);
}

#[test]
fn what_is_too_old_is_not_read_and_is_deleted() {
    let file = TestFile::new();
    let mut log = file.log(10, AGE);
    let p = log.append_some("news", 3);
    let q = log.append_some("other", 1);
    drop(log);
    let mut log = file.log(10, Duration::ZERO);
    // It is there yet.
    assert_eq!(log.rows("events"), 4);
    assert_eq!(log.after("news", p[0]), (vec![], p[2]));
    assert_eq!(log.after("news", p[2]), (vec![], 0));
    assert_eq!(tidy(&mut log), Duration::MAX);
    assert_eq!((log.rows("events"), log.rows("channels")), (0, 0));
    // Any event up to there may have been one of this channel.
    assert_eq!(log.after("news", p[0]), (vec![], q[0]));
    assert_eq!(log.after("news", q[0]), (vec![], 0));
    assert_eq!(log.after("nobody's", p[0]), (vec![], q[0]));
    drop(log);
    let mut log = file.log(10, AGE);
    let r = log.append_some("news", 2);
    assert_eq!(log.after("news", p[2]), (r.clone(), q[0]));
    assert_eq!(log.after("news", q[0]), (r, 0));
    assert!(tidy(&mut log) <= AGE);
}

#[test]
fn publishing_deletes_what_is_too_old_in_bounded_steps() {
    let file = TestFile::new();
    let mut log = file.log(10_000, AGE);
    let batch: Vec<_> = (0..1000)
        .map(|number| publication(&format!("c{number}"), None, ""))
        .collect();
    log.log.append(&batch).unwrap();
    drop(log);
    let mut log = file.log(10_000, Duration::ZERO);
    log.append("news", None, "");
    assert_eq!(log.rows("events"), 1001 - (OLD + OLD_EACH) as u64);
    assert_eq!(log.rows("channels"), log.rows("events"));
    log.append("news", None, "");
    // The first one on this channel is too old by now, but not its turn.
    assert_eq!(log.rows("events"), 1002 - 2 * (OLD + OLD_EACH) as u64);
}

#[test]
fn an_id_is_one_event_of_a_channel_until_it_is_too_old() {
    let file = TestFile::new();
    let mut log = file.log(2, AGE);
    let first = log.append("news", Some("größe 1"), "a");
    assert!(!first.duplicate);
    let again = Kept {
        duplicate: true,
        ..first
    };
    assert_eq!(log.append("news", Some("größe 1"), "b"), again);
    assert!(!log.append("other", Some("größe 1"), "a").duplicate);
    let batch = [
        publication("news", Some("2"), "c"),
        publication("news", Some("2"), "d"),
    ];
    let kept = log.log.append(&batch).unwrap();
    assert_eq!(
        kept[1],
        Kept {
            duplicate: true,
            ..kept[0]
        }
    );
    drop(log);
    let mut log = file.log(2, AGE);
    assert_eq!(log.append("news", Some("größe 1"), "e"), again);
    let read = log.read("news", 0, 10);
    let data: Vec<_> = read
        .events
        .iter()
        .map(|placed| placed.event.data().clone())
        .collect();
    assert_eq!(
        data,
        ["a", "c"].map(|data| crate::event::Data::Text(data.into()))
    );
    assert!(read.events.iter().all(|placed| placed.own_id));
    drop(log);
    let mut log = file.log(2, Duration::ZERO);
    assert!(!log.append("news", Some("größe 1"), "f").duplicate);
    assert!(!log.append("news", Some("größe 1"), "f").duplicate);
}

#[test]
fn an_id_is_a_place_on_its_channels_or_on_all_if_it_is_on_one() {
    let file = TestFile::new();
    let mut log = file.log(10, AGE);
    let one = log.append("x", Some("1"), "").position;
    assert_eq!(log.place("x", "1"), Some(one));
    assert_eq!(log.place("y", "1"), Some(one));
    assert_eq!(log.place("nobody's", "1"), Some(one));
    assert_eq!(log.place("x", "2"), None);
    let other = log.append("y", Some("1"), "").position;
    assert_eq!(log.place("x", "1"), Some(one));
    assert_eq!(log.place("y", "1"), Some(other));
    assert_eq!(log.place("nobody's", "1"), None);
    drop(log);
    let mut log = file.log(10, Duration::ZERO);
    assert_eq!(log.place("x", "1"), None);
}

#[test]
fn what_is_read_comes_in_pages() {
    let file = TestFile::new();
    let mut log = file.log(100, AGE);
    let p = log.append_some("news", 5);
    let first = log.read("news", p[0], 2);
    assert_eq!(
        (first.more, first.through, first.events.len()),
        (true, p[2], 2)
    );
    let rest = log.read("news", first.through, 2);
    assert_eq!(
        (rest.more, rest.through, rest.events.len()),
        (false, p[4], 2)
    );
    let large = "x".repeat(EVENT_DATA);
    for _ in 0..20 {
        log.append("large", None, &large);
    }
    let (mut pages, mut count, mut after) = (0, 0, 0);
    loop {
        let page = log.read("large", after, 500);
        assert!(page.events.len() < 12);
        (pages, count, after) = (pages + 1, count + page.events.len(), page.through);
        if !page.more {
            break;
        }
    }
    assert_eq!((pages, count), (3, 20));
}

#[test]
fn what_is_no_event_is_skipped() {
    let file = TestFile::new();
    let mut log = file.log(100, AGE);
    let p = log.append_some("news", 3);
    execute(
        &log,
        &format!(
            "UPDATE events SET payload = x'00' WHERE position = {}",
            p[1]
        ),
    );
    assert_eq!(log.after("news", 0).0, [p[0], p[2]]);
    let page = log.read("news", p[0], 1);
    assert_eq!(
        (page.events.len(), page.through, page.more),
        (0, p[1], true)
    );
}

#[test]
fn a_loss_of_power_is_told() {
    let file = TestFile::new();
    let retention = Retention {
        events: 10,
        age: AGE,
    };
    for (sync, end, gap) in [
        (Sync::Process, End::Killed, true),
        (Sync::Process, End::KilledIdle, false),
        (Sync::Process, End::Closed, false),
        (Sync::Power, End::Killed, false),
    ] {
        let mut log = file.try_log(retention, sync).unwrap();
        let p = log.append_some("news", 2);
        let before = log.log.last();
        match end {
            End::Killed => drop(log),
            End::KilledIdle => {
                tidy(&mut log);
                drop(log);
            }
            End::Closed => log.close(),
        }
        // Another run of the machine.
        let connection = Connection::open(&*file).unwrap();
        let other = "UPDATE log SET boot = 'before' WHERE boot IS NOT NULL";
        connection.execute_batch(other).unwrap();
        drop(connection);
        let mut log = file.try_log(retention, sync).unwrap();
        let last = log.log.last();
        assert_eq!(last > before, gap);
        for (channel, kept) in [("news", vec![p[1]]), ("nobody's", vec![])] {
            let missing = if gap { last } else { 0 };
            assert_eq!(
                log.after(channel, p[0]),
                (kept, missing),
                "{sync:?} {end:?}"
            );
        }
        assert!(log.append("news", None, "").position > last);
        log.close();
    }
}

#[test]
fn a_full_disk_keeps_nothing_half() {
    let file = TestFile::new();
    let mut log = file.log(1000, AGE);
    let p = log.append_some("news", 10);
    let pages: i64 = log
        .log
        .connection()
        .pragma_query_value(None, "page_count", |row| row.get(0))
        .unwrap();
    execute(&log, &format!("PRAGMA max_page_count = {}", pages + 5));
    let large = "x".repeat(100_000);
    let batch = [
        publication("fits", Some("1"), "x"),
        publication("large", Some("2"), &large),
    ];
    let before = log.log.last();
    for _ in 0..3 {
        let error = log.log.append(&batch).unwrap_err();
        assert!(
            matches!(FileError::new(&file, &error), FileError::Full(_)),
            "{error}"
        );
        assert_eq!(log.log.last(), before);
        assert_eq!((log.rows("channels"), log.rows("events")), (1, 10));
    }
    assert!(!log.append("fits", Some("1"), "x").duplicate);
    execute(&log, "PRAGMA max_page_count = 1000000");
    let kept = log.log.append(&batch).unwrap();
    assert_eq!((kept[0].duplicate, kept[1].duplicate), (true, false));
    assert_eq!(log.after("news", 0).0, p);
}

#[test]
fn room_is_given_back() {
    let file = TestFile::new();
    let mut log = file.log(usize::MAX, AGE);
    let data = "x".repeat(3000);
    for _ in 0..40 {
        let batch: Vec<_> = (0..100)
            .map(|number| publication(&format!("c{number}"), None, &data))
            .collect();
        log.log.append(&batch).unwrap();
    }
    log.close();
    let size = || fs::metadata(&*file).unwrap().len();
    assert!(size() > 12_000_000, "{}", size());
    let mut log = file.log(usize::MAX, Duration::ZERO);
    assert_eq!(tidy(&mut log), Duration::MAX);
    assert_eq!((log.rows("channels"), log.rows("events")), (0, 0));
    log.close();
    assert!(size() < 6_000_000, "{}", size());
}

#[test]
fn the_wal_is_bounded_once_nobody_reads_for_ever() {
    const FULL: u64 = 4 << 20;
    let file = TestFile::new();
    let mut log = file.log(3, AGE);
    let other = Connection::open(&*file).unwrap();
    other.execute_batch("BEGIN; SELECT * FROM log").unwrap();
    let data = "x".repeat(EVENT_DATA / 2);
    let wal = || fs::metadata(beside(&file, WAL)).unwrap().len();
    log.log.wal_full = FULL;
    while wal() < 2 * FULL {
        log.append("news", None, &data);
    }
    assert!(log.log.wal_full > 2 * FULL, "it was not tried");
    other.execute_batch("COMMIT").unwrap();
    log.log.wal_full = FULL;
    log.append("news", None, &data);
    assert!(wal() < FULL);
}
