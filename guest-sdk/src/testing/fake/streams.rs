//! Requests, and the connections that they become.

use std::{collections::BTreeSet, time::Duration};

use super::{State, checks};
use crate::{
    CloseReason, Disconnection, Error, Event, Response, Result, Upgrade,
    testing::{Heard, Request},
};

/// What a client got.
pub enum Answer {
    Response(Response),
    /// The index of the stream in the state.
    Stream(usize),
}

/// A request while it is handled.
pub struct RequestState {
    pub id: String,
    pub given: Request,
    pub answer: Option<Answer>,
    hang_up_at: Option<Duration>,
}

impl RequestState {
    pub fn new(state: &mut State, given: Request) -> Self {
        state.requests += 1;
        let hang_up_at = given
            .hang_up_after
            .map(|after| state.now.saturating_add(after));
        Self {
            id: format!("request{}", state.requests),
            given,
            answer: None,
            hang_up_at,
        }
    }

    pub fn respond(&mut self, response: Response) -> Result<()> {
        self.check_unanswered()?;
        checks::check_response(&response)?;
        self.answer = Some(Answer::Response(response));
        Ok(())
    }

    fn check_unanswered(&self) -> Result<()> {
        match self.answer {
            None => Ok(()),
            Some(Answer::Response(_)) => Err(Error::Invalid(
                "the request was answered already".to_owned(),
            )),
            Some(Answer::Stream(_)) => Err(Error::Invalid(
                "the request was upgraded already".to_owned(),
            )),
        }
    }

    /// Whether a page of the origin that the request comes from may read the stream.
    fn check_origin(&self, allowed: &[String]) -> Result<()> {
        let Some(origin) = self.given.header_value("origin") else {
            return Ok(());
        };
        let own = origin
            .split_once("://")
            .map(|(_, authority)| authority.to_owned());
        if own == self.given.header_value("host")
            || allowed
                .iter()
                .any(|known| *known == "*" || *known == origin)
        {
            return Ok(());
        }
        Err(Error::Denied(format!(
            "pages of the origin `{origin}` may not read this stream; allowed are {allowed:?}"
        )))
    }

    fn is_preflight(&self) -> bool {
        self.given.method == "OPTIONS"
            && self
                .given
                .header_value("access-control-request-method")
                .is_some()
    }

    fn last_event_id(&self) -> Option<String> {
        self.given
            .header_value("last-event-id")
            .or_else(|| {
                crate::Params::parse(self.given.query.as_deref()?)
                    .get("last-event-id")
                    .map(str::to_owned)
            })
            .filter(|id| !id.is_empty() && id.len() <= 1024)
    }
}

/// A connection.
pub struct Stream {
    pub id: String,
    pub last_event_id: Option<String>,
    pub options: Upgrade,
    pub heard: Vec<Heard>,
    pub end: Option<CloseReason>,
    pub hang_up_at: Option<Duration>,
    /// Publishers, by their index in the state, and channels.
    pub(super) registrations: BTreeSet<(usize, String)>,
    active_at: Duration,
}

impl Stream {
    pub fn channels(&self) -> Vec<String> {
        let channels: BTreeSet<_> = self
            .registrations
            .iter()
            .map(|(_, channel)| channel.clone())
            .collect();
        channels.into_iter().collect()
    }

    pub(super) fn inactive_at(&self) -> Option<Duration> {
        let timeout = self
            .options
            .inactivity_timeout
            .filter(|timeout| *timeout > 0)?;
        Some(
            self.active_at
                .saturating_add(Duration::from_millis(timeout.into())),
        )
    }

    pub(super) fn hear(&mut self, now: Duration, event: &Event) {
        self.active_at = now;
        self.heard.push(Heard {
            at: now,
            id: event.id.as_ref().map(|id| id.as_str().to_owned()),
            event_type: event
                .event_type
                .clone()
                .filter(|name| !name.is_empty())
                .unwrap_or_else(|| "message".to_owned()),
            data: event
                .data
                .as_str()
                .replace("\r\n", "\n")
                .replace('\r', "\n"),
            retry: event.retry,
        });
    }
}

impl State {
    pub fn stream(&mut self, index: usize) -> &mut Stream {
        &mut self.streams[index]
    }

    pub fn upgrade(&mut self, request: &mut RequestState, options: &Upgrade) -> Result<usize> {
        request.check_unanswered()?;
        checks::check_upgrade(options)?;
        let allowed = options.allowed_origins.as_deref().unwrap_or_default();
        if let Err(denied) = request.check_origin(allowed) {
            request.answer = Some(Answer::Response(
                Response::text(denied.message()).status(403),
            ));
            return Err(denied);
        }
        if request.is_preflight() {
            request.answer = Some(Answer::Response(Response::new(204)));
            return Err(Error::Closed(
                "the request was a CORS preflight and has been answered".to_owned(),
            ));
        }
        if request.hang_up_at.is_some_and(|at| at <= self.now) {
            return Err(Error::Closed("the client is gone".to_owned()));
        }
        let index = self.streams.len();
        self.streams.push(Stream {
            id: format!("connection{}", index + 1),
            last_event_id: request.last_event_id(),
            options: options.clone(),
            heard: Vec::new(),
            end: None,
            hang_up_at: request.hang_up_at,
            registrations: BTreeSet::new(),
            active_at: self.now,
        });
        request.answer = Some(Answer::Stream(index));
        Ok(index)
    }

    pub fn send(&mut self, index: usize, event: &Event) -> Result<()> {
        self.check_open(index)?;
        checks::check_event(event)?;
        let now = self.now;
        self.stream(index).hear(now, event);
        Ok(())
    }

    pub fn check_open(&self, index: usize) -> Result<()> {
        let stream = &self.streams[index];
        match stream.end {
            None => Ok(()),
            Some(reason) => Err(Error::Closed(format!(
                "the connection `{}` has ended: {reason:?}",
                stream.id
            ))),
        }
    }

    pub fn end(&mut self, index: usize, reason: CloseReason) {
        let stream = &mut self.streams[index];
        if stream.end.is_some() {
            return;
        }
        stream.end = Some(reason);
        let channels = stream.channels();
        stream.registrations.clear();
        self.disconnections.push(Disconnection {
            connection_id: stream.id.clone(),
            channels,
            reason,
        });
    }
}
