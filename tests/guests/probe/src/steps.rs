//! The steps that wait.

use std::time::Duration;

use fanfare_guest::{Redis, Result, flavour::Blocking, registry, sleep};
use serde_json::Value;

use crate::{
    script::{LOOK, Script, none},
    value::{event_out, message, number, receipt, text},
};

/// Does a step, of those that wait or any other.
pub(crate) fn step(script: &mut Script<'_, Blocking>, step: &Value) -> Result<Value> {
    let (first, second) = (&step[1], &step[2]);
    match step[0].as_str().unwrap_or_default() {
        // === connections ===
        // Why it ended; null where it has not within so many milliseconds, or at all.
        "closed" => {
            let within = first.as_u64().map(Duration::from_millis);
            let reason = script.connection()?.closed(within);
            Ok(reason.map(|reason| format!("{reason:?}")).into())
        }
        "wait-closed" => {
            let connection = script.connection()?;
            wait(|| Ok(!connection.is_open()))
        }
        "wait-left" => {
            let (channel, connection) = (text(first)?, script.connection()?);
            wait(|| Ok(!connection.channels().contains(&channel)))
        }

        // === publishing ===
        "start" => none(script.publisher()?.start()),
        "register" => {
            let (channel, connection) = (text(first)?, script.connection()?);
            none(script.publisher()?.register(connection, &channel))
        }
        "publish" => {
            let (channel, message) = (text(first)?, message(second)?);
            Ok(receipt(script.publisher()?.publish(&channel, message)?))
        }
        "publish-many" => {
            let (channel, publisher) = (text(first)?, script.publisher()?);
            for n in 0..number(second)? {
                publisher.publish(&channel, n.to_string())?;
            }
            Ok(Value::Null)
        }
        "remove" => {
            let id = match second {
                Value::Null => script.connection()?.id(),
                id => text(id)?,
            };
            none(script.publisher()?.remove(&id, &text(first)?))
        }
        "subscribers" => Ok(script.publisher()?.subscribers(&text(first)?)?.into()),
        "presence" => Ok(script.publisher()?.presence(&text(first)?)?.into()),
        "history" => {
            let (channel, limit) = (text(first)?, number(second)? as u32);
            let events = script.publisher()?.history(&channel, limit)?;
            Ok(events.iter().map(event_out).collect())
        }
        "wait-subscribers" => {
            let (channel, count) = (text(first)?, number(second)?);
            let publisher = script.publisher()?;
            wait(|| Ok(publisher.subscribers(&channel)? == count))
        }

        // === the rest ===
        "wait-for" => {
            let name = text(first)?;
            wait(|| Ok(registry::has(&name)))
        }
        "connect-redis" => Ok(Redis::connect(&text(first)?)?.address().into()),
        "sleep" => {
            sleep(Duration::from_millis(number(first)?));
            Ok(Value::Null)
        }

        _ => script.step(step),
    }
}

fn wait(condition: impl Fn() -> Result<bool>) -> Result<Value> {
    for _ in 0..LOOK.1 {
        if condition()? {
            return Ok(Value::Null);
        }
        sleep(LOOK.0);
    }
    Err("the script waited in vain".into())
}
