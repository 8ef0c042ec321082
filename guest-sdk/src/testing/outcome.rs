//! What came of a request.

use std::rc::Rc;

use super::{
    Stream,
    fake::{Answer, Fake},
};
use crate::{Response, Result};

/// What a handler returned, and what the client got.
#[derive(Debug)]
pub struct Outcome {
    result: Result<()>,
    answered: Answered,
}

#[derive(Debug)]
enum Answered {
    Response(Response),
    Stream(Stream),
}

impl Outcome {
    pub(super) fn new(fake: &Rc<Fake>, result: Result<()>, answer: Option<Answer>) -> Self {
        let answered = match answer {
            Some(Answer::Response(response)) => Answered::Response(response),
            Some(Answer::Stream(index)) => Answered::Stream(Stream::new(fake.clone(), index)),
            None => {
                let message = match &result {
                    Ok(()) => "the handler returned without an answer".to_owned(),
                    Err(error) => error.to_string(),
                };
                Answered::Response(Response::text(message).status(500))
            }
        };
        Self { result, answered }
    }

    /// What the handler returned.
    pub fn result(&self) -> &Result<()> {
        &self.result
    }

    /// The answer; the host's own where the handler gave none (500) and where an upgrade was refused (403).
    ///
    /// # Panics
    ///
    /// Where the request became an event stream.
    #[track_caller]
    pub fn response(&self) -> &Response {
        match &self.answered {
            Answered::Response(response) => response,
            Answered::Stream(_) => panic!(
                "the request was not answered but upgraded; the handler returned {:?}",
                self.result
            ),
        }
    }

    /// The event stream.
    ///
    /// # Panics
    ///
    /// Where the request was answered.
    #[track_caller]
    pub fn stream(&self) -> &Stream {
        match &self.answered {
            Answered::Stream(stream) => stream,
            Answered::Response(response) => panic!(
                "the request was not upgraded but answered with {}: {:?}; the handler returned {:?}",
                response.status,
                response.body_text(),
                self.result
            ),
        }
    }

    /// As [`stream`](Self::stream), to be kept.
    ///
    /// # Panics
    ///
    /// Where the request was answered.
    #[track_caller]
    pub fn into_stream(self) -> Stream {
        self.stream().clone()
    }

    /// Whether the request became an event stream.
    pub fn is_stream(&self) -> bool {
        matches!(self.answered, Answered::Stream(_))
    }
}
