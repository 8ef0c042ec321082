//! Requests to others, in a test: the upstreams of the host of `testing` answer.

use std::{rc::Rc, time::Duration};

use super::{Answer, Chunk};
use crate::{
    Error, Result,
    http::{Request, Url},
    testing::{
        Upstream,
        fake::Fake,
        upstream::{Piece, check_headers},
    },
};

pub fn start(request: &Request, url: &Url) -> Result<Pending> {
    let fake = Fake::current();
    check_headers(&request.headers)?;
    let upstream = fake.state().upstreams.get(&url.to_string()).cloned();
    let Some(upstream) = upstream else {
        return Err(Error::Denied(format!(
            "the app was not granted {url}; in a test, `Host::upstream` grants it"
        )));
    };
    let answer = upstream(request);
    let begins_at = fake.state().now.saturating_add(answer.begins_after);
    Ok(Pending {
        fake,
        answer,
        begins_at,
        origin: url.to_string(),
    })
}

/// The time on the clock of the host.
pub fn now() -> Duration {
    Fake::current().state().now
}

pub struct Pending {
    fake: Rc<Fake>,
    answer: Upstream,
    begins_at: Duration,
    origin: String,
}

impl Pending {
    pub fn wait(&self, within: Duration) -> bool {
        let left = self.left();
        self.fake.advance(left.min(within));
        left <= within
    }

    pub fn answer(self) -> Result<Answer> {
        self.fake.advance(self.left());
        Ok(Answer {
            status: self.answer.status,
            headers: self.answer.headers,
            body: Body {
                fake: self.fake,
                pieces: self.answer.pieces,
                origin: self.origin,
            },
        })
    }

    fn left(&self) -> Duration {
        self.begins_at.saturating_sub(self.fake.state().now)
    }
}

pub struct Body {
    fake: Rc<Fake>,
    pieces: std::collections::VecDeque<Piece>,
    origin: String,
}

impl Body {
    pub fn next(&mut self, within: Option<Duration>) -> Result<Chunk> {
        let mut left = within.unwrap_or(Duration::MAX);
        loop {
            match self.pieces.pop_front() {
                None => return Ok(Chunk::End),
                Some(Piece::Data(bytes)) => return Ok(Chunk::Data(bytes)),
                Some(Piece::Pause(pause)) => {
                    let passed = pause.min(left);
                    self.fake.advance(passed);
                    if pause > left {
                        self.pieces.push_front(Piece::Pause(pause - left));
                        return Ok(Chunk::Nothing);
                    }
                    left -= passed;
                }
                Some(Piece::Cut) => {
                    self.pieces.clear();
                    return Err(Error::Unavailable(format!(
                        "{} closed the connection before its response was complete",
                        self.origin
                    )));
                }
            }
        }
    }
}
