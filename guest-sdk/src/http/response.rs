//! A response, whose body is read as it comes.

use std::{fmt, time::Duration};

use serde::de::DeserializeOwned;

use super::{Events, Url};
use crate::{
    Error, Result,
    sys::http::{Answer, Body, Chunk},
};

/// What an error of [`Response::ok`] shows of a body, in bytes.
const SHOWN_BYTES: usize = 1000;

/// A response whose head has come. As an iterator it gives the body in chunks, as they come. Dropping it ends the
/// request.
pub struct Response {
    /// Its status.
    pub status: u16,
    /// Its headers, names in lower case. Those of one connection alone, such as `transfer-encoding`, are left out.
    pub headers: Vec<(String, Vec<u8>)>,
    body: Body,
    /// What was waited for and not asked for yet.
    ahead: Option<Result<Vec<u8>>>,
    over: bool,
    url: Url,
}

impl Response {
    pub(super) fn new(answer: Answer, url: Url) -> Self {
        Self {
            status: answer.status,
            headers: answer.headers,
            body: answer.body,
            ahead: None,
            over: false,
            url,
        }
    }

    /// The first header of this name, in any case, where it is UTF-8.
    pub fn header_value(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// The response, where its status is one of success (200 to 299). Else [`Unavailable`](Error::Unavailable) for 429
    /// and 500 to 599, where the same request may succeed later, and [`Other`](Error::Other); both with the beginning
    /// of the body.
    pub fn ok(mut self) -> Result<Self> {
        if (200..300).contains(&self.status) {
            return Ok(self);
        }
        let mut body = Vec::new();
        while body.len() < SHOWN_BYTES {
            match self.chunk()? {
                Some(chunk) => body.extend_from_slice(&chunk),
                None => break,
            }
        }
        body.truncate(SHOWN_BYTES);
        let text = format!(
            "{} answered with status {}: {}",
            self.url,
            self.status,
            String::from_utf8_lossy(&body).trim()
        );
        Err(match self.status {
            429 | 500..=599 => Error::Unavailable(text),
            _ => Error::Other(text),
        })
    }

    /// Waits for the next chunk; `None` at the end of the body.
    ///
    /// Errors: [`Unavailable`](Error::Unavailable) where the body breaks off or pauses for too long;
    /// [`Limited`](Error::Limited) past the app's limit `http.response-bytes`. After an error the body is over.
    pub fn chunk(&mut self) -> Result<Option<Vec<u8>>> {
        self.next().transpose()
    }

    /// Waits until there is a chunk, an error or the end, at most so long. True then: the next call of
    /// [`chunk`](Self::chunk) does not wait. Between two calls a handler can look whether its own client is still there.
    pub fn wait(&mut self, most: Duration) -> bool {
        if self.ahead.is_none() && !self.over {
            match self.body.next(Some(most)) {
                Ok(Chunk::Data(bytes)) => self.ahead = Some(Ok(bytes)),
                Ok(Chunk::End) => self.over = true,
                Ok(Chunk::Nothing) => return false,
                Err(error) => self.ahead = Some(Err(error)),
            }
        }
        true
    }

    /// The whole body, of at most so many bytes, else [`Limited`](Error::Limited).
    pub fn bytes(mut self, most: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk()? {
            if bytes.len() + chunk.len() > most {
                return Err(Error::Limited(format!(
                    "the response of {} is larger than the {most} bytes that the guest takes",
                    self.url
                )));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    /// The whole body as JSON, of at most so many bytes.
    pub fn json<T: DeserializeOwned>(self, most: usize) -> Result<T> {
        Ok(serde_json::from_slice(&self.bytes(most)?)?)
    }

    /// Reads the body as an event stream.
    pub fn events(self) -> Events {
        Events::new(self)
    }
}

impl Iterator for Response {
    type Item = Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        let chunk = match self.ahead.take() {
            Some(chunk) => chunk,
            None if self.over => return None,
            None => match self.body.next(None) {
                Ok(Chunk::Data(bytes)) => Ok(bytes),
                Ok(Chunk::End | Chunk::Nothing) => {
                    self.over = true;
                    return None;
                }
                Err(error) => Err(error),
            },
        };
        self.over |= chunk.is_err();
        Some(chunk)
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("headers", &names)
            .finish_non_exhaustive()
    }
}

pub(super) fn header<'a>(headers: &'a [(String, Vec<u8>)], name: &str) -> Option<&'a str> {
    let (_, value) = headers
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name))?;
    std::str::from_utf8(value).ok()
}
