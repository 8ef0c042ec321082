//! The asynchronous flavour on the host of `testing`. What does not wait is that of the blocking flavour, which
//! `testing_host` is about.

use std::{
    cell::RefCell,
    future::poll_fn,
    pin::pin,
    rc::Rc,
    task::{Poll, Waker},
    time::Duration,
};

use fanfare_guest::{
    asynchronous::{
        App, CloseReason, Connection, Disconnected, Disconnection, Error, Publisher, Redis,
        Request, Response, Result, registry, sleep, spawn,
        testing::{self, Host},
    },
    redis::Value,
};

const SECOND: Duration = Duration::from_secs(1);

thread_local! {
    static GONE: RefCell<Vec<Disconnection>> = const { RefCell::new(Vec::new()) };
    /// Who waits at `/doorbell`.
    static DOOR: RefCell<Option<Waker>> = const { RefCell::new(None) };
}

struct Test;

impl App for Test {
    async fn start() -> Result<()> {
        let publisher = Publisher::in_memory();
        publisher.start().await?;
        registry::set("publisher", &publisher)
    }

    async fn handle(request: Request) -> Result<()> {
        match request.path().as_str() {
            "/count" => count(&request).await,
            "/closed" => closed(&request).await,
            "/later" => {
                let stream = request.upgrade()?;
                spawn(async move {
                    sleep(SECOND).await;
                    publish("late").await.unwrap();
                    assert!(!stream.is_open());
                });
                Ok(())
            }
            "/begun" => {
                spawn(async { publish("at once").await.unwrap() });
                request.respond(Response::text("begun"))
            }
            "/doorbell" => {
                let mut waits = false;
                poll_fn(|context| {
                    if std::mem::replace(&mut waits, true) {
                        return Poll::Ready(());
                    }
                    DOOR.set(Some(context.waker().clone()));
                    Poll::Pending
                })
                .await;
                request.respond(Response::text("who is there?"))
            }
            "/ring" => {
                DOOR.take().expect("somebody should wait").wake();
                request.respond(Response::new(204))
            }
            "/fail" => {
                sleep(SECOND).await;
                Err("no tea left".into())
            }
            _ => std::future::pending().await,
        }
    }
}

impl Disconnected for Test {
    async fn disconnected(gone: Disconnection) {
        sleep(SECOND).await;
        GONE.with_borrow_mut(|all| all.push(gone));
    }
}

async fn publish(data: &str) -> Result<()> {
    let publisher: Publisher = registry::get("publisher")?;
    publisher.publish("news", data).await.map(drop)
}

/// Three events to everybody who counts, two seconds apart.
async fn count(request: &Request) -> Result<()> {
    let stream = request.upgrade()?;
    let publisher: Publisher = registry::get("publisher")?;
    publisher.register(&stream, "news").await?;
    let name = request.query_value("name").unwrap_or_default();
    for number in 0..3 {
        publish(&format!("{name}{number}")).await?;
        sleep(2 * SECOND).await;
    }
    publisher.remove(&stream.id(), "news").await
}

/// Waits for the end of its stream for as long as the query says, and says how that went.
async fn closed(request: &Request) -> Result<()> {
    let stream: Connection = request.upgrade()?;
    let within = request.query_value("within");
    let within = within.map(|seconds| SECOND * seconds.parse().expect("a number"));
    let reason = stream.closed(within).await;
    assert_eq!(reason, stream.closed(Some(Duration::ZERO)).await);
    registry::set("reason", &format!("{reason:?}"))
}

fn started() -> Host {
    let host = Host::new();
    host.start::<Test>().unwrap();
    host
}

fn reason(host: &Host) -> String {
    host.run(async { registry::get("reason").unwrap() })
}

#[test]
fn operations_answer_as_in_the_blocking_flavour() {
    let host = Host::new();
    host.grant_redis("r:6379")
        .answer_redis("TYPE", Value::Status("string".into()));
    host.run(async {
        let redis = Redis::connect("redis://r").await?;
        assert!(matches!(
            Redis::connect("redis://other").await,
            Err(Error::Denied(_))
        ));
        redis.set("k", "v").await?;
        redis.set_for("brief", "v", SECOND).await?;
        assert_eq!(redis.get_text("k").await?.as_deref(), Some("v"));
        assert_eq!(redis.get("none").await?, None);
        assert_eq!(redis.incr("n", 2).await?, 2);
        assert_eq!(redis.sadd("s", &["a", "b"]).await?, 2);
        assert_eq!(redis.srem("s", &["a"]).await?, 1);
        assert_eq!(redis.smembers("s").await?, [b"b"]);
        assert!(redis.exists("k").await? && redis.expire("n", SECOND).await?);
        assert_eq!(
            redis.execute("TYPE", &["k"]).await?.as_str(),
            Some("string")
        );
        assert_eq!(redis.publish("c", "hello").await?, 0);
        sleep(SECOND).await;
        assert_eq!(redis.del(&["k", "brief", "n"]).await?, 1);

        let publisher = Publisher::redis(&redis, "sync")?;
        assert!(matches!(
            publisher.publish("a", "x").await,
            Err(Error::NotStarted(_))
        ));
        publisher.start().await?;
        registry::set("publisher", &publisher)?;
        let publisher: Publisher = registry::get("publisher")?;
        assert_eq!(publisher.publish("a", "x").await?.delivered, 0);
        assert_eq!(publisher.history("a", 10).await?.len(), 1);
        assert_eq!(publisher.subscribers("a").await?, 0);
        assert!(publisher.presence("a").await?.is_empty());
        assert!(matches!(
            publisher.remove("nobody", "a").await,
            Err(Error::NotFound(_))
        ));
        Ok::<(), Error>(())
    })
    .unwrap();
    assert_eq!(host.elapsed(), SECOND);
}

#[test]
fn visitors_take_turns() {
    let host = started();
    let second = Rc::new(RefCell::new(None));
    let slot = second.clone();
    host.after(SECOND, move |host| {
        let outcome = host.handle::<Test>(testing::Request::get("/count?name=b"));
        *slot.borrow_mut() = Some(outcome.into_stream());
    });
    let first = host.handle::<Test>(testing::Request::get("/count?name=a"));
    let at = |stream: &testing::Stream| {
        let heard = stream.heard().into_iter();
        heard
            .map(|event| (event.data, event.at.as_secs()))
            .collect::<Vec<_>>()
    };
    let all = [
        ("a0", 0),
        ("b0", 1),
        ("a1", 2),
        ("b1", 3),
        ("a2", 4),
        ("b2", 5),
    ]
    .map(|(data, at)| (data.to_owned(), at));
    assert_eq!(at(first.stream()), all);
    assert_eq!(at(second.borrow().as_ref().unwrap()), all[1..]);
    assert_eq!(first.result(), &Ok(()));
    assert_eq!(first.stream().end(), Some(CloseReason::Closed));
}

#[test]
fn the_end_of_a_connection_is_awaited() {
    for (target, hang_up, expected, elapsed) in [
        ("/closed", 3, "Some(ClientGone)", 3),
        ("/closed?within=5", 3, "Some(ClientGone)", 3),
        ("/closed?within=2", 3, "None", 2),
        ("/closed?within=0", 3, "None", 0),
    ] {
        let host = started();
        let request = testing::Request::get(target).hang_up_after(hang_up * SECOND);
        assert_eq!(host.handle::<Test>(request).result(), &Ok(()), "{target}");
        assert_eq!(reason(&host), expected, "{target}");
        assert_eq!(host.elapsed(), elapsed * SECOND, "{target}");
    }

    // Another handler, or the node, may end it as well.
    let host = started();
    host.after(SECOND, |host| {
        host.streams()[0].end_with(CloseReason::Shutdown)
    });
    host.handle::<Test>(testing::Request::get("/closed"));
    assert_eq!(reason(&host), "Some(Shutdown)");
}

#[test]
fn work_goes_on_when_its_handler_has_returned() {
    let host = started();
    let outcome = host.handle::<Test>(testing::Request::get("/later"));
    assert_eq!(outcome.stream().end(), Some(CloseReason::Closed));
    assert_eq!(host.elapsed(), Duration::ZERO);
    host.advance(SECOND / 2);
    assert!(host.published().is_empty());
    host.advance(SECOND / 2);
    assert_eq!(host.published()[0].event.data.as_str(), "late");
    assert_eq!(host.published()[0].at, SECOND);

    // What waits for nothing is done when the test goes on.
    let outcome = host.handle::<Test>(testing::Request::get("/begun"));
    assert_eq!(outcome.response().body_text(), "begun");
    assert_eq!(host.published().len(), 2);
}

#[test]
fn calls_wake_each_other() {
    let host = started();
    host.after(SECOND, |host| {
        host.handle::<Test>(testing::Request::get("/ring"));
    });
    let outcome = host.handle::<Test>(testing::Request::get("/doorbell"));
    assert_eq!(outcome.response().body_text(), "who is there?");
    assert_eq!(host.elapsed(), SECOND);
}

#[test]
fn futures_of_one_call_wait_together() {
    let host = Host::new();
    host.run(async {
        let (mut short, mut long) = (pin!(sleep(2 * SECOND)), pin!(sleep(5 * SECOND)));
        let mut first = None;
        poll_fn(|context| {
            // As `join!` of any crate does; a future that is ready must not be polled again.
            if first.is_none() && short.as_mut().poll(context).is_ready() {
                first = Some(host.elapsed());
            }
            long.as_mut().poll(context)
        })
        .await;
        assert_eq!(first, Some(2 * SECOND));
    });
    assert_eq!(host.elapsed(), 5 * SECOND);
}

#[test]
fn errors_become_answers_and_ends_are_told() {
    let host = started();
    let failed = host.handle::<Test>(testing::Request::get("/fail"));
    assert_eq!(failed.response().status, 500);
    assert!(failed.problem().unwrap().contains("no tea left"));

    let gone = testing::Request::get("/closed").hang_up_after(SECOND);
    let stream = host.handle::<Test>(gone).into_stream();
    let before = host.elapsed();
    assert_eq!(host.disconnected::<Test>(), 1);
    assert_eq!(host.disconnected::<Test>(), 0);
    assert_eq!(host.elapsed(), before + SECOND);
    let told = GONE.take();
    assert_eq!(told[0].connection_id, stream.id());
    assert_eq!(told[0].reason, CloseReason::ClientGone);
}

#[test]
#[should_panic(expected = "waits for ever")]
fn a_handler_that_waits_for_ever_fails_its_test() {
    started().handle::<Test>(testing::Request::get("/nothing"));
}

#[test]
#[should_panic(expected = "waits for ever")]
fn a_stream_that_never_ends_fails_its_test() {
    started().handle::<Test>(testing::Request::get("/closed"));
}
