//! The scripts, against a real server.

use std::time::Duration;

use super::{
    super::{Presence, Told},
    *,
};
use crate::{
    event::{Data, IdForm},
    hub::{connection::ConnectionId, membership::Change},
    redis_pool::testing::{Server, pool, until},
};

const LIMIT: usize = 1000;

async fn log_of(server: &Server, name: &str, retention: Retention) -> Log {
    let pool = pool(Duration::from_secs(15));
    let client = pool.connect(&server.url("", "")).await.unwrap();
    Log::new(client, name.into(), retention)
}

fn kept(events: usize, age: Duration) -> Retention {
    Retention { events, age }
}

fn name(channel: &str) -> ChannelName {
    ChannelName::new(channel).unwrap()
}

fn event(text: &str) -> Event {
    Event::new(Data::Text(text.into()), LIMIT).unwrap()
}

async fn publish(log: &Log, channel: &str, text: &str) -> u64 {
    let accepted = log.publish(&name(channel), &event(text)).await.unwrap();
    accepted.position
}

async fn read(log: &Log, channel: &str, after: u64, limit: usize) -> (Vec<u64>, Page) {
    let page = log.read(&name(channel), after, limit, LIMIT).await.unwrap();
    let positions = page.events.iter().map(|placed| placed.position);
    (positions.collect(), page)
}

#[tokio::test]
async fn positions_grow_over_all_channels_and_pages_are_read_in_order() {
    let server = Server::start(&[]);
    let log = log_of(&server, "l", kept(100, Duration::from_secs(60))).await;
    let (mut news, mut all) = (Vec::new(), Vec::new());
    for number in 0..7 {
        news.push(publish(&log, "news", &number.to_string()).await);
        all.extend([news[number], publish(&log, "weather", "x").await]);
    }
    assert!(all.is_sorted() && all[0] > 0);
    let (first, page) = read(&log, "news", 0, 3).await;
    assert_eq!(
        (first, page.more, page.through),
        (news[..3].to_vec(), true, news[2])
    );
    let (rest, page) = read(&log, "news", news[2], 10).await;
    assert_eq!((rest, page.more), (news[3..].to_vec(), false));
    assert!(page.through >= all[13]);
    assert_eq!(page.missing, 0);
    let (nothing, page) = read(&log, "news", news[6], 10).await;
    assert_eq!((nothing.len(), page.missing), (0, 0));
    assert_eq!(page.events.len(), 0);
}

#[tokio::test]
async fn what_is_missing_is_exactly_what_was_forgotten() {
    let server = Server::start(&[]);
    let log = log_of(&server, "l", kept(3, Duration::from_secs(60))).await;
    let mut positions = Vec::new();
    for number in 0..5 {
        positions.push(publish(&log, "news", &number.to_string()).await);
    }
    // The newest that was forgotten is the second: who heard it has missed nothing that is not there.
    for (after, missing) in [
        (positions[0], positions[1]),
        (positions[1], 0),
        (positions[3], 0),
    ] {
        let (_, page) = read(&log, "news", after, 10).await;
        assert_eq!(page.missing, missing);
    }
    assert_eq!(read(&log, "news", positions[0], 10).await.0, positions[2..]);
    assert!(server.ask("EXISTS {l}:e:news").contains(":1"));
}

#[tokio::test]
async fn what_is_too_old_is_gone_and_costs_nothing() {
    let server = Server::start(&[]);
    let log = log_of(&server, "l", kept(100, Duration::from_millis(300))).await;
    let old = publish(&log, "news", "old").await;
    let own = event("own").with_id("7".into(), IdForm::Plain).unwrap();
    log.publish(&name("news"), &own).await.unwrap();
    until("the keys are gone", || async {
        server.ask("DBSIZE").contains(":1\r\n")
    })
    .await;
    let (events, page) = read(&log, "news", old, 10).await;
    assert!(events.is_empty() && page.missing > old);
    // It can be published again.
    assert!(!log.publish(&name("news"), &own).await.unwrap().duplicate);
}

#[tokio::test]
async fn what_is_too_old_is_dropped_while_others_come() {
    let server = Server::start(&[]);
    let log = log_of(&server, "l", kept(1000, Duration::from_millis(500))).await;
    let mut old = 0;
    for _ in 0..300 {
        old = publish(&log, "news", "old").await;
    }
    until("they are dropped, and only they", || async {
        // The key itself is never too old.
        publish(&log, "news", "later").await;
        let first = server.ask("LRANGE {l}:e:news 0 0");
        let first = first.lines().find_map(|line| line.split_once(' '));
        let first = first.map(|(position, _)| position);
        let dropped = first.and_then(|first| first.parse::<u64>().ok()) > Some(old);
        // What was published just now may have grown old as well before it is read.
        let (events, page) = read(&log, "news", 0, 1000).await;
        dropped && events.first() > Some(&old) && page.missing >= old
    })
    .await;
}

/// Positions that are ahead of the clock do not say how much time has passed.
#[tokio::test]
async fn what_is_new_is_kept_also_where_positions_are_ahead_of_the_clock() {
    let server = Server::start(&[]);
    let log = log_of(&server, "l", kept(10, Duration::from_secs(60))).await;
    let ahead = publish(&log, "news", "0").await + 3_600_000_000;
    server.ask(&format!("HSET {{l}} last {ahead}"));
    publish(&log, "news", "1").await;
    server.ask("PEXPIRE {l}:e:news 2000");
    publish(&log, "news", "2").await;
    let left = server.ask("PTTL {l}:e:news");
    let left = left.lines().next().and_then(|left| left.strip_prefix(':'));
    let left = left.and_then(|left| left.parse::<u64>().ok());
    assert!(left > Some(50_000), "{left:?}");
}

#[tokio::test]
async fn an_id_of_its_own_is_known_by_channel() {
    let server = Server::start(&[]);
    let log = log_of(&server, "l", kept(100, Duration::from_secs(60))).await;
    let own = event("x").with_id("größe 1".into(), IdForm::Any).unwrap();
    let first = log.publish(&name("news"), &own).await.unwrap();
    let again = log.publish(&name("news"), &own).await.unwrap();
    assert_eq!((again.position, again.duplicate), (first.position, true));
    let place = async |channel: &str, id: &str| log.place(&name(channel), id).await.unwrap();
    assert_eq!(place("weather", "größe 1").await, Some(first.position));
    let other = log.publish(&name("weather"), &own).await.unwrap();
    assert_eq!(place("weather", "größe 1").await, Some(other.position));
    assert_eq!(place("sport", "größe 1").await, None);
    let given = log.publish(&name("news"), &event("y")).await.unwrap();
    assert_eq!(place("sport", &given.id).await, Some(given.position));
    for odd in [
        given.id.replace('-', "-0"),
        given.id.replace('-', "-+"),
        "r-1".into(),
    ] {
        assert_eq!(place("sport", &odd).await, None, "{odd}");
    }
}

/// Positions go on above all that anybody has seen, and what may be lost is missing.
#[tokio::test]
async fn a_log_that_is_lost_goes_on_above_what_was_seen_of_it() {
    let mut server = Server::start(&[]);
    let log = log_of(&server, "l", kept(100, Duration::from_secs(60))).await;
    let before = publish(&log, "news", "lost").await;
    // As if the server's clock had been far ahead.
    let ahead = before + 3_600_000_000;
    log.newest.saw(ahead);
    let given = log.publish(&name("news"), &event("x")).await.unwrap().id;
    server.restart();
    until("it publishes again", || async {
        log.publish(&name("weather"), &event("x")).await.is_ok()
    })
    .await;
    let after = publish(&log, "news", "new").await;
    assert!(after > ahead, "{after} {ahead}");
    let (events, page) = read(&log, "news", before, 10).await;
    assert_eq!(events, [after]);
    assert!(page.missing > ahead && page.missing < after);
    // Its ids are another log's.
    assert_eq!(log.place(&name("news"), &given).await, Ok(None));
    // The same where somebody has emptied the server.
    server.ask("FLUSHALL");
    assert!(publish(&log, "news", "newer").await > after);
    assert!(read(&log, "news", after, 10).await.1.missing > after);
}

/// Whichever node comes first to a server that has lost something.
#[tokio::test]
async fn what_only_one_node_has_seen_is_told_to_all() {
    let mut server = Server::start(&[]);
    let retention = kept(100, Duration::from_secs(60));
    let (one, other) = (
        log_of(&server, "l", retention).await,
        log_of(&server, "l", retention).await,
    );
    let before = publish(&one, "news", "lost").await;
    let lost = publish(&one, "news", "lost too").await;
    server.restart();
    // As a replica that had heard of the first alone.
    let run = server.ask(&format!(
        "HSET {{l}} last {before} epoch r0 run of-another floor 0"
    ));
    assert!(run.contains(':'), "{run}");
    until("it publishes again", || async {
        other.publish(&name("weather"), &event("x")).await.is_ok()
    })
    .await;
    assert_eq!(read(&other, "news", before, 10).await.1.missing, 0);
    until("the first is back", || async {
        one.publish(&name("weather"), &event("x")).await.is_ok()
    })
    .await;
    let missing = read(&other, "news", before, 10).await.1.missing;
    assert!(missing > lost, "{missing}");
    // What was accepted after that is there.
    let (events, page) = read(&other, "weather", missing, 10).await;
    assert_eq!((events.len(), page.missing), (2, 0));
}

#[tokio::test]
async fn what_others_write_there_is_an_error_and_no_panic() {
    let server = Server::start(&[]);
    let log = log_of(&server, "l", kept(100, Duration::from_secs(60))).await;
    let position = publish(&log, "news", "x").await;
    // An entry that is none of ours is left out; keys that are something else are told of.
    server.ask(&format!(
        "RPUSH {{l}}:e:news \"{} {position} r0\\nnonsense\"",
        position + 1
    ));
    let (events, page) = read(&log, "news", 0, 10).await;
    // It may have been an event, of a node of another version: clients are to know.
    assert_eq!((events, page.missing), (vec![position], position + 1));
    server.ask("RPUSH {l}:e:news odd");
    server.ask("LPUSH {l}:e:news odd");
    assert_eq!(read(&log, "news", 0, 10).await.0, [position]);
    server.ask("SET {l}:e:weather x");
    let own = event("own").with_id("7".into(), IdForm::Plain).unwrap();
    assert!(log.publish(&name("weather"), &own).await.is_err());
    // What was not kept is not known by its id.
    server.ask("DEL {l}:e:weather");
    let accepted = log.publish(&name("weather"), &own).await.unwrap();
    assert!(!accepted.duplicate);
    // What would be read again for ever is told.
    server.ask("RPUSH {l}:e:odd one two");
    assert!(log.read(&name("odd"), 0, 1, 100).await.is_err());
    server.ask("HSET {l} last nonsense");
    assert!(log.publish(&name("sport"), &event("x")).await.is_ok());
}

#[tokio::test]
async fn members_are_told_of_and_forgotten() {
    let server = Server::start(&[]);
    let retention = kept(1, Duration::from_secs(60));
    let members = async || Members::new(Arc::new(log_of(&server, "l", retention).await));
    let (one, other) = (members().await, members().await);
    // Before it has said that it lives, nothing is taken of it.
    let change = |joined| Change {
        channel: name("news"),
        connection: ConnectionId::parse(&"1".repeat(32)).unwrap(),
        joined,
    };
    assert!(one.tell(&[change(true)]).await.unwrap().forgotten);
    for members in [&one, &other] {
        // It is new, and so is all that it has.
        assert!(members.renew().await.unwrap().forgotten);
        assert!(!members.renew().await.unwrap().forgotten);
    }
    let occupied = one.tell(&[change(true)]).await.unwrap().occupancy;
    assert_eq!(occupied, [(name("news"), true)]);
    for told in [
        other.tell(&[change(true)]).await,
        one.tell(&[change(true)]).await,
    ] {
        assert_eq!(told.unwrap().occupancy, []);
    }
    assert_eq!(other.others(&name("news")).await, Ok(1));
    assert_eq!(one.tell(&[change(false)]).await.unwrap().occupancy, []);
    assert_eq!(other.others(&name("news")).await, Ok(0));
    let vacated = other.tell(&[change(false)]).await.unwrap().occupancy;
    assert_eq!(vacated, [(name("news"), false)]);

    // One is taken for dead: its members are gone, it hears of that, and comes back under another name.
    one.tell(&[change(true)]).await.unwrap();
    let lease = format!("ZADD {{l}}:nodes XX 1 {}", one.node_name());
    server.ask(&lease);
    assert_eq!(other.others(&name("news")).await, Ok(0));
    let vacated = other.renew().await.unwrap().occupancy;
    assert_eq!(vacated, [(name("news"), false)]);
    assert!(one.tell(&[change(true)]).await.unwrap().forgotten);
    assert!(one.renew().await.unwrap().forgotten);
    assert!(one.renew().await.unwrap().forgotten);
    assert!(!one.tell(&[change(true)]).await.unwrap().forgotten);
    assert_eq!(other.others(&name("news")).await, Ok(1));
}

/// A server that takes over may not have heard of all of them.
#[tokio::test]
async fn members_are_told_of_anew_over_another_connection() {
    let server = Server::start(&[]);
    let retention = kept(1, Duration::from_secs(60));
    let members = async || Members::new(Arc::new(log_of(&server, "l", retention).await));
    let (one, other) = (members().await, members().await);
    let change = |name: &str, joined| Change {
        channel: self::name(name),
        connection: ConnectionId::parse(&"1".repeat(32)).unwrap(),
        joined,
    };
    for members in [&one, &other] {
        assert!(members.renew().await.unwrap().forgotten);
    }
    one.tell(&[change("news", true), change("sport", true)])
        .await
        .unwrap();
    one.tell(&[change("sport", false), change("weather", true)])
        .await
        .unwrap();
    // What was told last is lost.
    let former = one.node_name();
    for lost in [
        "DEL {l}:c:weather".to_owned(),
        format!("DEL {{l}}:m:weather:{former}"),
        format!("HSET {{l}}:c:sport {former} 1"),
        format!("SADD {{l}}:m:sport:{former} {}", "1".repeat(32)),
        format!("SADD {{l}}:o:{former} sport"),
    ] {
        server.ask(&lost);
    }
    server.ask("CLIENT KILL TYPE normal SKIPME yes");
    until(
        "it has told that it lives over another connection",
        || async { one.renew().await.is_ok_and(|told| told.forgotten) },
    )
    .await;
    assert_eq!(one.former_names(), [former]);
    // The other one has told nothing by its name.
    until("the other one is back", || async {
        other.renew().await.is_ok_and(|told| told.forgotten)
    })
    .await;
    assert_eq!(other.former_names(), [""; 0]);
    // What it was called before counts until it has told, and it is not one of the others itself.
    assert_eq!(one.renew().await.unwrap(), Told::default());
    assert_eq!(one.others(&name("news")).await, Ok(0));
    let told = one
        .tell(&[change("news", true), change("weather", true)])
        .await
        .unwrap();
    assert_eq!(one.others(&name("news")).await, Ok(0));
    // The channel is not vacated and occupied again.
    assert_eq!(told.occupancy, [(name("weather"), true)]);
    let vacated = one.renew().await.unwrap().occupancy;
    assert_eq!(vacated, [(name("sport"), false)]);
    assert_eq!(one.former_names(), [""; 0]);
    for (channel, count) in [("news", 1), ("sport", 0), ("weather", 1)] {
        assert_eq!(other.others(&name(channel)).await, Ok(count), "{channel}");
    }
}
