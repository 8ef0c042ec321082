//! Arguments and results of steps, from JSON and to it.

use std::time::Duration;

use fanfare_guest::{Error, Event, EventId, Message, Payload, Receipt, Response, Result, Upgrade};
use serde_json::{Value, json};

/// A text, or `{"repeat": [text, times]}`: a large one would not fit into a script.
pub(crate) fn text(value: &Value) -> Result<String> {
    if let Some(text) = value.as_str() {
        return Ok(text.to_owned());
    }
    match (value["repeat"][0].as_str(), value["repeat"][1].as_u64()) {
        (Some(text), Some(times)) => Ok(text.repeat(times as usize)),
        _ => Err(Error::Invalid(format!("the script: {value} is no text"))),
    }
}

fn some_text(value: &Value) -> Result<Option<String>> {
    if value.is_null() {
        Ok(None)
    } else {
        text(value).map(Some)
    }
}

pub(crate) fn texts(value: &Value) -> Result<Vec<String>> {
    value.as_array().into_iter().flatten().map(text).collect()
}

pub(crate) fn number(value: &Value) -> Result<u64> {
    value
        .as_u64()
        .ok_or_else(|| Error::Invalid(format!("the script: {value} is no number")))
}

/// Text, or `{"json": text}`.
fn payload(value: &Value) -> Result<Option<Payload>> {
    match value {
        Value::Null => Ok(None),
        Value::Object(object) if object.contains_key("json") => {
            Ok(Some(Payload::Json(text(&value["json"])?)))
        }
        _ => Ok(Some(Payload::Text(text(value)?))),
    }
}

/// A plain id, or `{"any": text}`.
fn id(value: &Value) -> Result<Option<EventId>> {
    match value {
        Value::Null => Ok(None),
        Value::Object(object) if object.contains_key("any") => {
            Ok(Some(EventId::Any(text(&value["any"])?)))
        }
        _ => Ok(Some(EventId::Plain(text(value)?))),
    }
}

/// `{"data": …, "id": …, "type": …, "retry": milliseconds}`, or only the data.
pub(crate) fn event(value: &Value) -> Result<Event> {
    let message = message(value)?;
    Ok(Event {
        id: message.id,
        event_type: message.event_type,
        data: message.data.unwrap_or_else(|| "".into()),
        retry: message.retry,
    })
}

/// As an event, and `event` besides. Nothing is filled in.
pub(crate) fn message(value: &Value) -> Result<Message> {
    if value.is_string() {
        return Ok(Message::from(text(value)?));
    }
    Ok(Message {
        event: match &value["event"] {
            Value::Null => None,
            ready => Some(event(ready)?),
        },
        id: id(&value["id"])?,
        event_type: some_text(&value["type"])?,
        data: payload(&value["data"])?,
        retry: value["retry"].as_u64().map(Duration::from_millis),
    })
}

/// `{"origins": […], "ping": milliseconds, "inactivity": milliseconds}`, each of which may be missing.
pub(crate) fn upgrade(value: &Value) -> Result<Upgrade> {
    let mut upgrade = Upgrade::new();
    if let Some(origins) = value["origins"].as_array() {
        upgrade = upgrade
            .own_origin_only()
            .allow_origins(texts(&origins.clone().into())?);
    }
    if let Some(ping) = value["ping"].as_u64() {
        upgrade = upgrade.ping_every(Duration::from_millis(ping));
    }
    if let Some(inactivity) = value["inactivity"].as_u64() {
        upgrade = upgrade.close_after_inactivity(Duration::from_millis(inactivity));
    }
    Ok(upgrade)
}

/// `{"status": …, "headers": [[name, value], …], "body": text}`, each of which may be missing.
pub(crate) fn response(value: &Value) -> Result<Response> {
    let mut response = Response::new(value["status"].as_u64().unwrap_or(200) as u16);
    for header in value["headers"].as_array().into_iter().flatten() {
        response = response.header(text(&header[0])?, text(&header[1])?);
    }
    Ok(response.body(some_text(&value["body"])?.unwrap_or_default()))
}

/// An error of the case with this name.
pub(crate) fn fail(case: &str, sentence: String) -> Error {
    match case {
        "denied" => Error::Denied(sentence),
        "invalid" => Error::Invalid(sentence),
        "not-found" => Error::NotFound(sentence),
        "wrong-type" => Error::WrongType(sentence),
        "closed" => Error::Closed(sentence),
        "not-started" => Error::NotStarted(sentence),
        "limited" => Error::Limited(sentence),
        "unavailable" => Error::Unavailable(sentence),
        _ => Error::Other(sentence),
    }
}

pub(crate) fn error(error: &Error) -> Value {
    let case = match error {
        Error::Denied(_) => "denied",
        Error::Invalid(_) => "invalid",
        Error::NotFound(_) => "not-found",
        Error::WrongType(_) => "wrong-type",
        Error::Closed(_) => "closed",
        Error::NotStarted(_) => "not-started",
        Error::Limited(_) => "limited",
        Error::Unavailable(_) => "unavailable",
        Error::Other(_) => "other",
    };
    json!({ "error": case, "text": error.message() })
}

pub(crate) fn receipt(receipt: Receipt) -> Value {
    json!({ "id": receipt.id, "delivered": receipt.delivered, "duplicate": receipt.duplicate })
}

pub(crate) fn event_out(event: &Event) -> Value {
    let id = event.id.as_ref().map(|id| match id {
        EventId::Plain(id) => json!(id),
        EventId::Any(id) => json!({ "any": id }),
    });
    let data = match &event.data {
        Payload::Text(text) => json!(text),
        Payload::Json(text) => json!({ "json": text }),
    };
    let retry = event.retry.map(|retry| retry.as_millis() as u64);
    json!({ "id": id, "type": event.event_type, "data": data, "retry": retry })
}

/// Bytes as a text, with `\xNN` for what is none.
pub(crate) fn bytes(bytes: &[u8]) -> Value {
    bytes.escape_ascii().to_string().into()
}
