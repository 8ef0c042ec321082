//! The steps that wait, in the asynchronous flavour.

use std::time::Duration;

use fanfare_guest::{
    asynchronous::{Redis, Result, registry, sleep, spawn},
    flavour::Asynchronous,
};
use serde_json::Value;

use crate::{
    bell,
    script::{LOOK, Script, none},
    value::{event_out, message, number, receipt, text},
};

/// Does a step, of those that wait or any other.
pub(crate) async fn step(script: &mut Script<'_, Asynchronous>, step: &Value) -> Result<Value> {
    let (first, second) = (&step[1], &step[2]);
    match step[0].as_str().unwrap_or_default() {
        // === connections ===
        // Why it ended; null where it has not within so many milliseconds, or at all.
        "closed" => {
            let within = first.as_u64().map(Duration::from_millis);
            let reason = script.connection()?.closed(within).await;
            Ok(reason.map(|reason| format!("{reason:?}")).into())
        }
        "wait-closed" => {
            let connection = script.connection()?;
            wait(async || Ok(!connection.is_open())).await
        }
        "wait-left" => {
            let (channel, connection) = (text(first)?, script.connection()?);
            wait(async || Ok(!connection.channels().contains(&channel))).await
        }

        // === publishing ===
        "start" => none(script.publisher()?.start().await),
        "register" => {
            let (channel, connection) = (text(first)?, script.connection()?);
            none(script.publisher()?.register(connection, &channel).await)
        }
        "publish" => {
            let (channel, message) = (text(first)?, message(second)?);
            Ok(receipt(
                script.publisher()?.publish(&channel, message).await?,
            ))
        }
        "publish-many" => {
            let (channel, publisher) = (text(first)?, script.publisher()?);
            for n in 0..number(second)? {
                publisher.publish(&channel, n.to_string()).await?;
            }
            Ok(Value::Null)
        }
        "remove" => {
            let id = match second {
                Value::Null => script.connection()?.id(),
                id => text(id)?,
            };
            none(script.publisher()?.remove(&id, &text(first)?).await)
        }
        "subscribers" => Ok(script.publisher()?.subscribers(&text(first)?).await?.into()),
        "presence" => Ok(script.publisher()?.presence(&text(first)?).await?.into()),
        "history" => {
            let (channel, limit) = (text(first)?, number(second)? as u32);
            let events = script.publisher()?.history(&channel, limit).await?;
            Ok(events.iter().map(event_out).collect())
        }
        "wait-subscribers" => {
            let (channel, count) = (text(first)?, number(second)?);
            let publisher = script.publisher()?;
            wait(async || Ok(publisher.subscribers(&channel).await? == count)).await
        }

        // === the rest ===
        "wait-for" => {
            let name = text(first)?;
            wait(async || Ok(registry::has(&name))).await
        }
        "connect-redis" => Ok(Redis::connect(&text(first)?).await?.address().into()),
        "sleep" => {
            sleep(Duration::from_millis(number(first)?)).await;
            Ok(Value::Null)
        }
        // === what this flavour alone has ===
        // Lets these steps go on beside the script, and after its end.
        "spawn" => {
            run_beside(first.as_array().cloned().unwrap_or_default());
            Ok(Value::Null)
        }
        // Waits until a call in the same instance rings.
        "wait-bell" => {
            bell::heard().await;
            Ok(Value::Null)
        }
        "ring" => Ok(bell::ring().into()),
        _ => script.step(step),
    }
}

fn run_beside(steps: Vec<Value>) {
    spawn(async move {
        let mut script = Script::new(None);
        for next in steps {
            if let Err(error) = Box::pin(step(&mut script, &next)).await {
                eprintln!("a step beside its script failed: {error}");
            }
        }
    });
}

async fn wait(condition: impl AsyncFn() -> Result<bool>) -> Result<Value> {
    for _ in 0..LOOK.1 {
        if condition().await? {
            return Ok(Value::Null);
        }
        sleep(LOOK.0).await;
    }
    Err("the script waited in vain".into())
}
