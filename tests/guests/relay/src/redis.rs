//! Commands to Redis, from JSON to JSON.

use std::time::Duration;

use fanfare_guest::{Error, Redis, Request, Result, redis};
use serde_json::{Value, json};

/// Runs the command in the body, on the server of the query.
pub fn answer(request: &Request) -> Result<Value> {
    let client = Redis::connect(&request.query_value("url").unwrap_or_default())?;
    let words: Vec<String> = serde_json::from_slice(&request.body())?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    Ok(match words.as_slice() {
        ["address"] => json!(client.address()),
        ["get", key] => json!(client.get_text(key)?),
        ["set", key, value] => json!(client.set(key, value)?),
        ["set-for", key, value, time] => json!(client.set_for(key, value, milliseconds(time)?)?),
        ["incr", key, by] => json!(client.incr(key, number(by)?)?),
        ["del", keys @ ..] => json!(client.del(keys)?),
        ["exists", key] => json!(client.exists(key)?),
        ["expire", key, time] => json!(client.expire(key, milliseconds(time)?)?),
        ["publish", channel, payload] => json!(client.publish(channel, payload)?),
        ["sadd", key, members @ ..] => json!(client.sadd(key, members)?),
        ["srem", key, members @ ..] => json!(client.srem(key, members)?),
        ["smembers", key] => {
            let mut members: Vec<_> = client
                .smembers(key)?
                .iter()
                .map(|member| text(member))
                .collect();
            members.sort();
            json!(members)
        }
        ["execute", command, arguments @ ..] => value(&client.execute(command, arguments)?),
        _ => return Err(Error::Invalid(format!("{words:?} is no command"))),
    })
}

fn number(text: &str) -> Result<i64> {
    text.parse()
        .map_err(|_| Error::Invalid(format!("{text} is no number")))
}

fn milliseconds(text: &str) -> Result<Duration> {
    Ok(Duration::from_millis(number(text)?.unsigned_abs()))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A value, its kind told where JSON has no such.
fn value(from: &redis::Value) -> Value {
    match from {
        redis::Value::Nil => Value::Null,
        redis::Value::Status(status) => json!({ "status": status }),
        redis::Value::Integer(number) => json!(number),
        redis::Value::Double(number) => json!({ "double": number }),
        redis::Value::Boolean(truth) => json!(truth),
        redis::Value::Bytes(bytes) => json!(text(bytes)),
        redis::Value::Array(elements) => elements.iter().map(value).collect(),
        redis::Value::Error(text) => json!({ "error": text }),
    }
}
