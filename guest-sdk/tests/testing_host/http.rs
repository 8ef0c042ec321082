//! Requests to others, which the test answers.

use std::time::Duration;

use fanfare_guest::{
    Error, http,
    testing::{Host, Upstream},
};

const SECOND: Duration = Duration::from_secs(1);

fn host(answer: Upstream) -> Host {
    let host = Host::new();
    host.upstream("https://api.example.org", move |_| answer.clone());
    host
}

fn get() -> fanfare_guest::Result<http::Response> {
    http::Request::get("https://API.example.org:443/feed").send()
}

#[test]
fn what_was_not_granted_is_denied() {
    let host = host(Upstream::new(200));
    host.run(|| {
        assert!(get().is_ok());
        for url in ["http://api.example.org/", "https://api.example.org:8443/"] {
            let error = http::Request::get(url).send().unwrap_err();
            assert!(matches!(error, Error::Denied(_)), "{error}");
        }
        let request = http::Request::get("https://api.example.org/").header("Host", "x");
        assert!(matches!(request.send(), Err(Error::Invalid(_))));
    });
}

#[test]
fn statuses_are_responses_and_ok_makes_errors_of_them() {
    for (status, unavailable) in [(404, false), (429, true), (503, true)] {
        let host = host(Upstream::new(status).chunk("why"));
        host.run(|| {
            assert_eq!(get().unwrap().status, status);
            let error = get().unwrap().ok().unwrap_err();
            assert_eq!(
                matches!(error, Error::Unavailable(_)),
                unavailable,
                "{error}"
            );
            let said = format!("status {status}: why");
            assert!(error.message().ends_with(&said), "{error}");
        });
    }
}

#[test]
fn bodies_come_in_chunks_or_whole_and_bounded() {
    let host = host(
        Upstream::new(200)
            .header("Content-Type", "x")
            .chunk("[1,")
            .chunk("2]"),
    );
    host.run(|| {
        let response = get()?;
        assert_eq!(response.header_value("content-type"), Some("x"));
        let chunks = response.collect::<Result<Vec<_>, _>>()?;
        assert_eq!(chunks, [b"[1,".to_vec(), b"2]".to_vec()]);
        assert_eq!(get()?.json::<Vec<u8>>(5)?, [1, 2]);
        assert!(matches!(get()?.bytes(4), Err(Error::Limited(_))));
        Ok::<(), Error>(())
    })
    .unwrap();
}

#[test]
fn waiting_ends_and_time_passes() {
    let host = host(Upstream::new(200).data("one").pause(3 * SECOND).data("two"));
    host.run(|| {
        let mut events = get()?.events();
        assert!(events.wait(SECOND));
        assert_eq!(
            events.next().transpose()?.map(|event| event.data),
            Some("one".into())
        );
        assert_eq!(host.elapsed(), Duration::ZERO);
        assert!(!events.wait(SECOND) && !events.wait(SECOND));
        assert_eq!(host.elapsed(), 2 * SECOND);
        assert!(events.wait(2 * SECOND));
        assert_eq!(host.elapsed(), 3 * SECOND);
        assert_eq!(
            events.next().transpose()?.map(|event| event.data),
            Some("two".into())
        );
        assert!(events.wait(SECOND), "the end is no wait");
        assert!(events.next().is_none() && events.next().is_none());
        Ok::<(), Error>(())
    })
    .unwrap();
}

#[test]
fn a_wait_for_an_event_ends_however_many_comments_come() {
    let mut answer = Upstream::new(200);
    for _ in 0..20 {
        answer = answer.chunk(": still here\n\n").pause(SECOND / 4);
    }
    let host = host(answer.data("one"));
    host.run(|| {
        let mut events = get()?.events();
        for waited in 1..=4 {
            assert!(!events.wait(SECOND));
            assert_eq!(host.elapsed(), waited * SECOND);
        }
        assert!(events.wait(2 * SECOND));
        assert_eq!(host.elapsed(), 5 * SECOND);
        let event = events.next().transpose()?;
        assert_eq!(event.map(|event| event.data), Some("one".into()));
        // All of them at once.
        let mut flood = http::Request::get("https://api.example.org/")
            .send()?
            .events();
        assert!(!flood.wait(Duration::ZERO));
        Ok::<(), Error>(())
    })
    .unwrap();
}

#[test]
fn a_head_lets_itself_be_waited_for() {
    let host = host(Upstream::new(200).begins_after(3 * SECOND).chunk("x"));
    host.run(|| {
        let pending = http::Request::get("https://api.example.org/").start()?;
        assert!(!pending.wait(SECOND));
        assert_eq!(host.elapsed(), SECOND);
        assert!(pending.wait(5 * SECOND));
        assert_eq!(host.elapsed(), 3 * SECOND);
        assert_eq!(pending.response()?.bytes(1)?, b"x");
        assert_eq!(get()?.status, 200);
        assert_eq!(host.elapsed(), 6 * SECOND);
        Ok::<(), Error>(())
    })
    .unwrap();
}

#[test]
fn a_body_that_breaks_off_is_an_error_and_then_over() {
    let host = host(Upstream::new(200).data("one").chunk("data: half").cut());
    host.run(|| {
        let mut events = get().unwrap().events();
        assert_eq!(events.next().unwrap().unwrap().data, "one");
        assert!(matches!(events.next(), Some(Err(Error::Unavailable(_)))));
        assert!(events.next().is_none());
        let mut response = get().unwrap();
        assert_eq!(response.by_ref().filter(Result::is_err).count(), 1);
        assert!(response.next().is_none());
    });
}
