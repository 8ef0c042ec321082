//! What came of a request.

use std::rc::Rc;

use super::{
    Stream,
    fake::{Answer, Fake, RequestState},
};
use crate::{Error, Response, Result};

/// What a handler returned, and what the client got.
#[derive(Debug)]
pub struct Outcome {
    result: Result<()>,
    problem: Option<String>,
    answered: Answered,
}

#[derive(Debug)]
enum Answered {
    Response(Response),
    Stream(Stream),
}

impl Outcome {
    pub(super) fn new(fake: &Rc<Fake>, result: Result<()>, request: &mut RequestState) -> Self {
        let problem = match (&result, &request.answer) {
            (Ok(()), Some(_)) => None,
            (Ok(()), None) => Some(
                "the handler returned without answering the request or upgrading it".to_owned(),
            ),
            (Err(Error::Closed(_) | Error::NotFound(_)), Some(Answer::Stream(index)))
                if fake.state().check_open(*index).is_err() =>
            {
                None
            }
            (Err(_), Some(_)) if request.answered_by_host => None,
            (Err(error), _) => Some(format!("the handler answered {error}")),
        };
        let answered = match request.answer.take() {
            Some(Answer::Response(response)) => Answered::Response(response),
            Some(Answer::Stream(index)) => {
                fake.state().handler_returned(index, problem.as_deref());
                Answered::Stream(Stream::new(fake.clone(), index))
            }
            None => {
                let text = problem.as_deref().unwrap_or_default();
                Answered::Response(Response::text(format!("{text}\n")).status(500))
            }
        };
        Self {
            result,
            problem,
            answered,
        }
    }

    /// What the handler returned.
    pub fn result(&self) -> &Result<()> {
        &self.result
    }

    /// What the host would log as the handler's error: nothing where all went well, where the stream has ended
    /// ([`Error::Closed`] and [`Error::NotFound`] after that), and where the host answered by itself.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// The answer; the host's own where the handler gave none (500), where an upgrade was refused (403)
    /// and to a preflight (204).
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
