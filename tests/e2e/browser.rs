//! A real browser: its `EventSource`, its CORS checks, and the pages of the examples.

use std::net::SocketAddr;

use fanfare_tests::{
    browser::{Browser, Page},
    node::{Node, Setup},
    servers::ports,
    site::Site,
};
use serde_json::{Value, json};

use crate::guests;

/// Listens with an `EventSource`. `heard` has the events, but for `hello`; `hellos` has what those said, one for each
/// time that the guest took the connection; `errors` has the ready states at the errors.
const PAGE: &str = r#"<!doctype html><title>A page that listens</title><script>
  let source, heard = [], hellos = [], errors = [];
  function listen(url, options) {
    source = new EventSource(url, options);
    source.onerror = () => errors.push(source.readyState);
    source.addEventListener("hello", event => hellos.push(JSON.parse(event.data)));
    for (const type of ["message", "greeting", "fanfare-gap"]) {
      source.addEventListener(type, ({ type, data, lastEventId }) => heard.push([type, data, lastEventId]));
    }
  }
</script>"#;

/// A page of another origin.
struct Elsewhere {
    site: Site,
    browser: Browser,
}

impl Elsewhere {
    fn new() -> Self {
        Self {
            site: Site::serve(PAGE),
            browser: Browser::launch(),
        }
    }

    /// A node whose streams it may read.
    fn relay(&self) -> Setup {
        relay(&self.site.origin(), "")
    }

    /// A tab that listens.
    fn listen(&self, url: &str, options: Value) -> Page {
        let page = self.browser.open(&self.site.origin());
        page.evaluate(&format!("listen({url:?}, {options})"));
        page
    }
}

/// A node whose streams pages of this origin may read, with more in its configuration.
fn relay(origin: &str, more: &str) -> Setup {
    Node::config(&format!(
        "[node]\ndevelopment = true\nreconnect-within = '100ms'\n\
         [apps.relay]\ncomponent = '{}'\n[apps.relay.streams]\nallowed-origins = ['{origin}']\n{more}",
        guests::RELAY
    ))
}

/// Waits until the guest has taken the connection so many times.
fn wait_for_hellos(page: &Page, count: usize) {
    page.wait_for(&format!("hellos.length >= {count}"));
}

/// Waits for so many events, and returns their data.
fn data(page: &Page, count: usize) -> Value {
    page.wait_for(&format!("heard.length >= {count}"));
    page.evaluate("heard.map(([, data]) => data)")
}

/// A publication's id.
fn publish(node: &Node, target: &str, data: &str) -> String {
    let receipt = node.post(target, data).json();
    receipt["id"]
        .as_str()
        .unwrap_or_else(|| panic!("not published: {receipt}"))
        .to_owned()
}

// === The pages of the examples ===

#[test]
fn the_quickstart_page_shows_ten_events_as_they_come() {
    let node = Node::serve(guests::QUICKSTART)
        .var("interval-ms", "500")
        .start();
    let browser = Browser::launch();
    let page = browser.open(&node.url("/?name=tick"));
    let early = page.wait_for("document.querySelectorAll('li').length");
    assert_eq!(
        page.evaluate("document.querySelector('.card').dataset.state"),
        "open",
        "after {early} events"
    );
    page.wait_for("document.querySelector('#state').textContent === 'closed after ten events'");
    let shown = page.evaluate("[...document.querySelectorAll('li')].map(li => li.querySelector('b').textContent).reverse()");
    assert_eq!(
        shown,
        json!(["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"])
    );
    assert_eq!(
        page.evaluate(
            "[...new Set([...document.querySelectorAll('li code')].map(code => code.textContent))]"
        ),
        json!(["tick"])
    );
    assert_eq!(
        page.evaluate("document.querySelector('#count').textContent"),
        "10 heard"
    );
}

#[test]
fn the_quickstart_page_listens_to_the_type_that_it_is_told() {
    let node = Node::serve(guests::QUICKSTART)
        .var("interval-ms", "1")
        .start();
    let browser = Browser::launch();
    let page = browser.open(&node.url("/"));
    for name in ["greeting", "", "ünï cödé"] {
        if name != "greeting" {
            page.evaluate(&format!(
                "form.elements.name.value = {name:?}; form.requestSubmit()"
            ));
        }
        let expected = if name.is_empty() { "message" } else { name };
        page.wait_for(&format!(
            "document.querySelector('#state').textContent === 'closed after ten events' && \
             [...document.querySelectorAll('li code')].filter(code => code.textContent === {expected:?}).length === 10"
        ));
    }
}

#[test]
fn people_talk_in_two_tabs_and_see_how_many_they_are() {
    let node = Node::serve(guests::CHAT).start();
    let browser = Browser::launch();
    let say = |page: &Page, name: &str, text: &str| {
        page.evaluate(&format!(
            "say.elements.name.value = {name:?}; say.elements.text.value = {text:?}; say.requestSubmit()"
        ));
    };
    let wait_for_state = |page: &Page, text: &str| {
        page.wait_for(&format!(
            "document.querySelector('#state').textContent === {text:?}"
        ));
    };
    let wait_for_last = |page: &Page, text: &str| {
        page.wait_for(&format!("document.querySelector('ol li:last-child')?.innerText.replace(/\\n/g, '|') === {text:?}"));
    };

    let ann = browser.open(&node.url("/#garden"));
    wait_for_state(&ann, "only you are here");
    let bob = browser.open(&node.url("/#garden"));
    wait_for_state(&ann, "2 are here");
    wait_for_state(&bob, "2 are here");
    // Another room is another channel.
    let eve = browser.open(&node.url("/#cellar"));
    wait_for_state(&eve, "only you are here");

    say(&ann, "Ann", "hello, <b>Bob</b> ☂");
    wait_for_last(&bob, "Ann|hello, <b>Bob</b> ☂");
    wait_for_last(&ann, "Ann|hello, <b>Bob</b> ☂");
    assert_eq!(ann.evaluate("list.lastElementChild.className"), "mine");
    say(&bob, "Bob", "hello, Ann");
    wait_for_last(&ann, "Bob|hello, Ann");
    assert_eq!(ann.evaluate("list.children.length"), 2);
    assert_eq!(eve.evaluate("list.children.length"), 0);

    bob.close();
    wait_for_state(&ann, "only you are here");
}

// === Origins ===

#[test]
fn a_page_of_an_allowed_origin_hears_the_quickstart() {
    let elsewhere = Elsewhere::new();
    let node = Node::serve(guests::QUICKSTART)
        .var("interval-ms", "1")
        .var(
            "allowed-origins",
            &format!("https://example.org, {}", elsewhere.site.origin()),
        )
        .start();
    let page = elsewhere.listen(&node.url("/events?name=greeting"), json!({}));
    page.wait_for("heard.length >= 10 && (source.close(), true)");
    let heard = page.evaluate("heard.slice(0, 10).map(([type, data]) => type + data)");
    assert_eq!(
        heard,
        (0..10)
            .map(|index| json!(format!("greeting{index}")))
            .collect::<Value>()
    );
}

#[test]
fn a_page_of_another_origin_is_refused_for_good() {
    let elsewhere = Elsewhere::new();
    let node = relay("https://example.org", "").start();
    let page = elsewhere.listen(&node.url("/events?channel=c"), json!({}));
    page.wait_for("errors.length");
    assert_eq!(
        page.evaluate("errors"),
        json!([2]),
        "an EventSource that is CLOSED"
    );
    let receipt = node.post("/publish/c", "secret").json();
    assert_eq!(receipt["delivered"], 0);
    assert_eq!(
        page.evaluate("[source.readyState, heard, hellos]"),
        json!([2, [], []])
    );
}

#[test]
fn cookies_come_along_from_a_named_origin() {
    let elsewhere = Elsewhere::new();
    let node = elsewhere.relay().start();
    for (with, cookie) in [(true, json!("who=ann")), (false, Value::Null)] {
        let page = elsewhere.browser.open(&elsewhere.site.origin());
        // Cookies are one host's, whatever the port.
        page.evaluate("document.cookie = 'who=ann; path=/'");
        page.evaluate(&format!(
            "listen({:?}, {{ withCredentials: {with} }})",
            node.url("/events?channel=c")
        ));
        wait_for_hellos(&page, 1);
        assert_eq!(page.evaluate("hellos[0].cookie"), cookie);
        assert_eq!(page.evaluate("hellos[0].origin"), elsewhere.site.origin());
    }
}

#[test]
fn where_every_origin_is_allowed_pages_with_cookies_are_not() {
    let elsewhere = Elsewhere::new();
    let node = relay("*", "").start();
    let page = elsewhere.listen(
        &node.url("/events?channel=c"),
        json!({ "withCredentials": true }),
    );
    page.wait_for("errors.length");
    assert_eq!(page.evaluate("[source.readyState, hellos]"), json!([2, []]));
    let page = elsewhere.listen(&node.url("/events?channel=c"), json!({}));
    wait_for_hellos(&page, 1);
}

// === Coming back ===

#[test]
fn what_was_missed_arrives_once_after_the_server_has_closed() {
    let elsewhere = Elsewhere::new();
    let node = elsewhere.relay().start();
    let page = elsewhere.listen(&node.url("/events?channel=c&retry=1000"), json!({}));
    wait_for_hellos(&page, 1);
    publish(&node, "/publish/c", "one");
    let last = publish(&node, "/publish/c", "two");
    assert_eq!(data(&page, 2), json!(["one", "two"]));

    assert_eq!(node.post("/close/c", "").json(), 1);
    publish(&node, "/publish/c", "three");
    publish(&node, "/publish/c", "four");
    wait_for_hellos(&page, 2);
    publish(&node, "/publish/c", "five");
    assert_eq!(
        data(&page, 5),
        json!(["one", "two", "three", "four", "five"])
    );
    assert_eq!(
        page.evaluate("hellos.map(hello => hello['last-event-id'])"),
        json!([null, last])
    );
    assert_eq!(page.evaluate("errors"), json!([0]));
    assert!(
        !node.log().iter().any(|line| line.contains("OPTIONS")),
        "a plain id needs no preflight"
    );
}

#[test]
fn an_odd_id_comes_back_across_origins() {
    let elsewhere = Elsewhere::new();
    let node = elsewhere.relay().start();
    let page = elsewhere.listen(&node.url("/events?channel=c&retry=10"), json!({}));
    wait_for_hellos(&page, 1);
    publish(
        &node,
        "/publish/c?any-id=nr.%201%20%22%C3%A4%22%20%28%3A%29",
        "one",
    );
    page.wait_for("heard.length");
    assert_eq!(page.evaluate("heard[0][2]"), "nr. 1 \"ä\" (:)");
    node.post("/close/c", "");
    publish(&node, "/publish/c", "two");
    assert_eq!(data(&page, 2), json!(["one", "two"]));
    wait_for_hellos(&page, 2);
    assert_eq!(
        page.evaluate("hellos[1]['last-event-id']"),
        "nr. 1 \"ä\" (:)"
    );
}

/// An `EventSource` of Chromium sends its id without a preflight, whatever it is; other browsers ask, as `fetch` does.
#[test]
fn a_page_may_say_by_itself_what_it_heard_last() {
    let elsewhere = Elsewhere::new();
    let node = elsewhere.relay().start();
    let page = elsewhere.browser.open(&elsewhere.site.origin());
    let said = page.evaluate(&format!(
        "const answer = await fetch({:?}, {{ headers: {{ 'Last-Event-ID': 'nr. 1 (:)' }} }});
         const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
         let text = '';
         while (!text.endsWith('\\n\\n')) text += (await reader.read()).value;
         await reader.cancel();
         text",
        node.url("/events?channel=c")
    ));
    assert!(
        said.as_str()
            .is_some_and(|said| said.contains(r#""last-event-id":"nr. 1 (:)""#)),
        "{said}"
    );
    node.wait_for_log("OPTIONS /events");

    let refused = relay("https://example.org", "").start();
    let said = page.evaluate(&format!(
        "await fetch({:?}, {{ headers: {{ 'Last-Event-ID': 'nr. 1 (:)' }} }}).then(() => 'read', () => 'refused')",
        refused.url("/events?channel=c")
    ));
    assert_eq!(said, "refused");
    let log = refused.wait_for_log("OPTIONS /events");
    assert!(log.contains("status=403"), "{log}");
}

#[test]
fn a_page_goes_on_with_the_node_that_comes_after() {
    let elsewhere = Elsewhere::new();
    // A port that nobody else is given between the two.
    let address = SocketAddr::from(([127, 0, 0, 1], ports::free()));
    let node = elsewhere.relay().listen(address).start();
    let page = elsewhere.listen(&node.url("/events?channel=c"), json!({}));
    wait_for_hellos(&page, 1);
    let last = publish(&node, "/publish/c", "one");
    data(&page, 1);

    node.stop();
    let node = elsewhere.relay().listen(address).start();
    wait_for_hellos(&page, 2);
    assert_eq!(page.evaluate("hellos[1]['last-event-id']"), last);
    publish(&node, "/publish/c", "two");
    // The new node knows nothing of what was published before it, and says so.
    let gap = format!(r#"{{"channel":"c","last-event-id":"{last}"}}"#);
    assert_eq!(data(&page, 3), json!(["one", gap, "two"]));
    assert_eq!(page.evaluate("heard[1][0]"), "fanfare-gap");
    assert_eq!(page.evaluate("new Set(errors).has(2)"), false);
}

#[test]
fn a_page_gets_into_a_node_that_was_full() {
    let elsewhere = Elsewhere::new();
    let node = relay(
        &elsewhere.site.origin(),
        "[apps.relay.limits]\nconnections = 1\n",
    )
    .start();
    let first = node.events("/events?channel=c");
    let page = elsewhere.listen(&node.url("/events?channel=c"), json!({}));
    page.wait_for("errors.length >= 3");
    assert_eq!(
        page.evaluate("[hellos, [...new Set(errors)]]"),
        json!([[], [0]]),
        "it goes on trying"
    );
    first.close();
    wait_for_hellos(&page, 1);
    publish(&node, "/publish/c", "one");
    assert_eq!(data(&page, 1), json!(["one"]));
}

#[test]
fn pings_are_no_events() {
    let elsewhere = Elsewhere::new();
    let node = elsewhere.relay().start();
    let url = node.url("/events?channel=c&ping=100");
    let page = elsewhere.listen(&url, json!({}));
    wait_for_hellos(&page, 1);
    page.evaluate("source.onmessage = event => heard.push(event.data)");
    // The same stream, as the page can see its bytes: so long the other one was pinged as well.
    page.evaluate(&format!(
        "const reader = (await fetch({url:?})).body.pipeThrough(new TextDecoderStream()).getReader();
         let text = '';
         while ((text.match(/^:/gm) ?? []).length < 5) text += (await reader.read()).value;
         await reader.cancel()"
    ));
    assert_eq!(
        page.evaluate("[heard, hellos.length, errors]"),
        json!([[], 1, []])
    );
    publish(&node, "/publish/c", "one");
    assert_eq!(
        page.wait_for("heard.length"),
        2,
        "a listener of its own and `onmessage`"
    );
}
