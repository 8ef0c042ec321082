//! An event as it is kept on the server: in columns.

use crate::event::{Data, Event, EventError, IdForm};

/// An event in columns.
pub(super) struct Columns {
    pub(super) id: Option<String>,
    pub(super) event_type: Option<String>,
    /// `None` where it is too large to be fetched.
    pub(super) data: Option<Vec<u8>>,
    pub(super) json: bool,
    pub(super) retry: Option<i64>,
    /// In microseconds.
    pub(super) age: i64,
}

impl Columns {
    /// The event. One without an id is given this one; its data may have so many bytes.
    pub(super) fn event(
        self,
        id: impl FnOnce() -> String,
        limit: usize,
    ) -> Result<Event, EventError> {
        let Some(data) = self.data else {
            return Err(EventError::Invalid(format!(
                "its data is over the app's limit `event-data` of {limit} bytes"
            )));
        };
        let data = String::from_utf8(data)
            .map_err(|_| EventError::Invalid("its data is not UTF-8".into()))?;
        let data = match self.json {
            true => Data::Json(data),
            false => Data::Text(data),
        };
        let mut event = Event::new(data, limit)?;
        event = match self.id {
            Some(id) => event.with_id(id, IdForm::Any)?,
            None => event.with_id(id(), IdForm::Plain)?,
        };
        if let Some(event_type) = self.event_type {
            event = event.with_type(event_type)?;
        }
        let retry = self.retry.map(u32::try_from).transpose();
        let retry = retry.map_err(|_| EventError::Invalid("its `retry` is out of range".into()))?;
        Ok(event.with_retry(retry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(data: &str) -> Columns {
        Columns {
            id: None,
            event_type: None,
            data: Some(data.into()),
            json: false,
            retry: None,
            age: 0,
        }
    }

    #[test]
    fn columns_are_an_event() {
        let own = Columns {
            id: Some("größe 1".into()),
            event_type: Some("greeting".into()),
            json: true,
            retry: Some(7),
            ..columns("{}")
        };
        let event = own.event(|| unreachable!(), 10).unwrap();
        assert_eq!(
            (event.id(), event.event_type(), event.retry()),
            (Some("größe 1"), Some("greeting"), Some(7))
        );
        assert_eq!(*event.data(), Data::Json("{}".into()));
        let given = columns("a\r\n\0b").event(|| "r1-2".into(), 10).unwrap();
        assert_eq!(given.id(), Some("r1-2"));
        assert_eq!(*given.data(), Data::Text("a\r\n\0b".into()));
    }

    #[test]
    fn what_is_no_event_says_why() {
        let bad = [
            Columns {
                data: None,
                ..columns("")
            },
            Columns {
                data: Some(vec![0xff]),
                ..columns("")
            },
            Columns {
                json: true,
                ..columns("{")
            },
            Columns {
                id: Some("a\nb".into()),
                ..columns("x")
            },
            Columns {
                event_type: Some("a\nb".into()),
                ..columns("x")
            },
            Columns {
                retry: Some(-1),
                ..columns("x")
            },
            columns("more than ten bytes"),
        ];
        for columns in bad {
            assert!(columns.event(|| "r1-2".into(), 10).is_err());
        }
    }
}
