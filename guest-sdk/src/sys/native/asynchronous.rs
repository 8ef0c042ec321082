//! What waits, in the asynchronous flavour. Only time is waited for; everything else answers at once.

use std::{
    future::poll_fn,
    pin::pin,
    task::{Poll, ready},
    time::Duration,
};

use super::Connection;
use crate::{CloseReason, testing::fake::Fake};

pub fn spawn(future: impl Future<Output = ()> + 'static) {
    Fake::current().spawn(future);
}

pub async fn sleep(duration: Duration) {
    Fake::current().timer(duration).await;
}

pub async fn closed(connection: &Connection, within: Option<u64>) -> Option<CloseReason> {
    let Connection { fake, index } = connection;
    let mut timer = pin!(within.map(|within| fake.timer(Duration::from_millis(within))));
    poll_fn(|context| {
        if let Some(reason) = fake.state().stream(*index).ended(context) {
            return Poll::Ready(Some(reason));
        }
        match timer.as_mut().as_pin_mut() {
            Some(timer) => {
                ready!(timer.poll(context));
                Poll::Ready(None)
            }
            None => Poll::Pending,
        }
    })
    .await
}

/// Makes functions of the blocking flavour those of this one.
macro_rules! at_once {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        $(pub async fn $name($($argument: $type),*) -> $result {
            blocking::$name($($argument),*)
        })*
    };
}

pub mod publishing {
    use super::super::{Connection, Publisher, blocking::publishing as blocking};
    use crate::{Event, Message, Receipt, Result};

    at_once! {
        start(publisher: &Publisher) -> Result<()>;
        register(publisher: &Publisher, connection: &Connection, channel: &str) -> Result<()>;
        publish(publisher: &Publisher, channel: &str, message: Message) -> Result<Receipt>;
        remove(publisher: &Publisher, connection_id: &str, channel: &str) -> Result<()>;
        subscribers(publisher: &Publisher, channel: &str) -> Result<u64>;
        presence(publisher: &Publisher, channel: &str) -> Result<Vec<String>>;
        history(publisher: &Publisher, channel: &str, limit: u32) -> Result<Vec<Event>>;
    }
}

pub mod redis {
    use super::super::{Redis, blocking::redis as blocking};
    use crate::{Result, redis::Part};

    at_once! {
        connect(url: &str) -> Result<Redis>;
        execute(redis: &Redis, command: &str, arguments: &[Vec<u8>]) -> Result<Vec<Part>>;
        get(redis: &Redis, key: &str) -> Result<Option<Vec<u8>>>;
        set(redis: &Redis, key: &str, value: &[u8], expires_in: Option<u64>) -> Result<()>;
        incr(redis: &Redis, key: &str, by: i64) -> Result<i64>;
        del(redis: &Redis, keys: &[String]) -> Result<u64>;
        exists(redis: &Redis, key: &str) -> Result<bool>;
        expire(redis: &Redis, key: &str, expires_in: u64) -> Result<bool>;
        publish(redis: &Redis, channel: &str, payload: &[u8]) -> Result<u64>;
        sadd(redis: &Redis, key: &str, members: &[Vec<u8>]) -> Result<u64>;
        srem(redis: &Redis, key: &str, members: &[Vec<u8>]) -> Result<u64>;
        smembers(redis: &Redis, key: &str) -> Result<Vec<Vec<u8>>>;
    }
}
