//! What somebody says in a room, and what is refused.

use fanfare_guest::{Request, Response, Result};
use serde::{Deserialize, Serialize};

const ROOM: usize = 40;
const NAME: usize = 40;
const TEXT: usize = 2000;

/// A message, as it is posted and as it is published.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Said {
    name: String,
    text: String,
}

impl Said {
    /// Reads the body, a form or JSON. The error is the answer.
    pub fn read(request: &Request) -> Result<Self, Response> {
        let said = match request.content_type().as_deref() {
            Some("application/json") => request
                .json()
                .map_err(|error| refuse(400, error.message()))?,
            Some("application/x-www-form-urlencoded") => {
                let form = request
                    .form()
                    .map_err(|error| refuse(400, error.message()))?;
                let field = |name| {
                    let value = form.get(name).map(str::to_owned);
                    value.ok_or_else(|| refuse(400, &format!("the form lacks the field `{name}`")))
                };
                Self {
                    name: field("name")?,
                    text: field("text")?,
                }
            }
            _ => return Err(refuse(415, "send a form or JSON, with its content-type")),
        };
        said.check()
    }

    fn check(self) -> Result<Self, Response> {
        let name = self.name.trim();
        let text = self.text.trim();
        if name.is_empty() || name.chars().count() > NAME || name.contains(char::is_control) {
            return Err(refuse(
                422,
                &format!("a name has 1 to {NAME} characters, on one line"),
            ));
        }
        if text.is_empty() {
            return Err(refuse(422, "there is nothing in the text"));
        }
        let length = text.chars().count();
        if length > TEXT {
            let message = format!("a text has at most {TEXT} characters; this one has {length}");
            return Err(refuse(422, &message));
        }
        Ok(Self {
            name: name.to_owned(),
            text: text.to_owned(),
        })
    }
}

/// Whether a room may have this name. The error is the answer.
pub fn check_room(room: &str) -> Result<(), Response> {
    let allowed = |letter: char| letter.is_alphanumeric() || letter == '-' || letter == '_';
    if (1..=ROOM).contains(&room.chars().count()) && room.chars().all(allowed) {
        return Ok(());
    }
    let rule = format!("the name of a room has 1 to {ROOM} letters, digits, `-` and `_`");
    Err(refuse(400, &rule))
}

fn refuse(status: u16, message: &str) -> Response {
    Response::text(format!("{message}\n")).status(status)
}
