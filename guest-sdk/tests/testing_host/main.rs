//! The host of `testing` answers as the contract says, through the same functions that guests call.

macro_rules! assert_error {
    ($result:expr, $case:ident $(, $word:expr)*) => {{
        let result = $result;
        match &result {
            Err(Error::$case(message)) => {
                $(assert!(message.contains($word), "{message:?} lacks {:?}", $word);)*
                let _ = message;
            }
            _ => panic!("should be {}: {result:?}", stringify!($case)),
        }
    }};
}

mod connections;
mod http;
mod publishers;
mod requests;
mod time;
mod values;

use std::{cell::RefCell, rc::Rc, time::Duration};

use fanfare_guest::{
    App, CloseReason, Connection, Disconnected, Disconnection, Error, Event, EventId, Message,
    Payload, Publisher, Redis, Request, Response, Result, Upgrade, config,
    redis::Value,
    registry, sleep,
    testing::{self, Host, Outcome},
};

/// What a test wants to do with a request; an app is a type, and tests differ in code.
type Handler = Box<dyn Fn(&Request) -> Result<()>>;

thread_local! {
    static HANDLER: RefCell<Option<Rc<Handler>>> = const { RefCell::new(None) };
    static GONE: RefCell<Vec<Disconnection>> = const { RefCell::new(Vec::new()) };
}

struct Test;

impl App for Test {
    fn handle(request: Request) -> Result<()> {
        let handler = HANDLER
            .with_borrow(Clone::clone)
            .expect("a test should set its handler");
        handler(&request)
    }
}

impl Disconnected for Test {
    fn disconnected(gone: Disconnection) {
        GONE.with_borrow_mut(|all| all.push(gone));
    }
}

fn handle(
    host: &Host,
    request: testing::Request,
    handler: impl Fn(&Request) -> Result<()> + 'static,
) -> Outcome {
    HANDLER.set(Some(Rc::new(Box::new(handler))));
    host.handle::<Test>(request)
}

fn get(host: &Host, handler: impl Fn(&Request) -> Result<()> + 'static) -> Outcome {
    handle(host, testing::Request::get("/"), handler)
}

fn publisher() -> Result<Publisher> {
    let publisher = Publisher::in_memory();
    publisher.start()?;
    Ok(publisher)
}

/// A stream that hears the channels.
fn join(host: &Host, request: testing::Request, channels: &[&'static str]) -> testing::Stream {
    let channels = channels.to_vec();
    let outcome = handle(host, request, move |request| {
        let stream = request.upgrade()?;
        channels
            .iter()
            .try_for_each(|channel| publisher()?.register(&stream, channel))
    });
    assert_eq!(outcome.result(), &Ok(()));
    outcome.into_stream()
}

/// Handles have nothing in them that must not be printed.
#[test]
fn handles_are_debug() {
    fn is_debug<T: std::fmt::Debug>() {}
    is_debug::<Connection>();
    is_debug::<Publisher>();
    is_debug::<Redis>();
    is_debug::<Request>();
    is_debug::<Host>();
    is_debug::<Outcome>();
}
