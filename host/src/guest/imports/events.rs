//! `events`: events of the contract, checked.

use crate::{
    event::{self, Data, EventError, IdForm},
    guest::{
        bindings::fanfare::sse::events::{Event, EventId, Host, Message, Payload},
        error::HostError,
        state::State,
    },
};

impl Host for State {}

/// Checks an event of at most so many bytes of data.
pub fn event(event: Event, limit: usize) -> Result<event::Event, EventError> {
    let data = match event.data {
        Payload::Text(text) => Data::Text(text),
        Payload::Json(text) => Data::Json(text),
    };
    let mut checked = event::Event::new(data, limit)?.with_retry(event.retry);
    if let Some(id) = event.id {
        let (id, form) = match id {
            EventId::Plain(id) => (id, IdForm::Plain),
            EventId::Any(id) => (id, IdForm::Any),
        };
        checked = checked.with_id(id, form)?;
    }
    if let Some(event_type) = event.event_type {
        checked = checked.with_type(event_type)?;
    }
    Ok(checked)
}

/// Checks a message: its ready-made event, else the event of its fields.
pub fn message(message: Message, limit: usize) -> Result<event::Event, HostError> {
    let ready = match (message.event, message.data) {
        (Some(event), _) => event,
        (None, Some(data)) => Event {
            id: message.id,
            event_type: message.event_type,
            data,
            retry: message.retry,
        },
        (None, None) => {
            return Err(HostError::invalid(
                "the message has neither an event nor data; an event may have empty data",
            ));
        }
    };
    Ok(event(ready, limit)?)
}

/// An event of a history, for the guest.
pub fn for_guest(event: &event::Event) -> Event {
    let id = event
        .id()
        .map(|id| match event::check_id(id, IdForm::Plain) {
            Ok(()) => EventId::Plain(id.to_owned()),
            Err(_) => EventId::Any(id.to_owned()),
        });
    Event {
        id,
        event_type: event.event_type().map(str::to_owned),
        data: match event.data() {
            Data::Text(text) => Payload::Text(text.clone()),
            Data::Json(text) => Payload::Json(text.clone()),
        },
        retry: event.retry(),
    }
}
