//! Requests, and the connections that they become.

use std::{
    collections::BTreeSet,
    task::{Context, Waker},
    time::Duration,
};

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
    /// Whether the host gave that answer by itself: to a preflight, or to a foreign origin.
    pub answered_by_host: bool,
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
            answered_by_host: false,
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
                "the request was upgraded to an event stream already".to_owned(),
            )),
        }
    }

    fn answer_by_host(&mut self, response: Response) {
        self.answered_by_host = true;
        self.answer = Some(Answer::Response(response));
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
            "pages of the origin {origin:?} are not allowed to read the stream"
        )))
    }

    fn is_preflight(&self) -> bool {
        let has = |name| self.given.header_value(name).is_some();
        self.given.method == "OPTIONS" && has("origin") && has("access-control-request-method")
    }

    fn last_event_id(&self) -> Option<String> {
        let header = self.given.header_value("last-event-id");
        let query = self.given.query.as_deref().unwrap_or_default();
        header
            .or_else(|| {
                crate::Params::parse(query)
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
    /// Of a client that came back, until its handler has returned, the places of what it heard in the order of all
    /// events: what it missed on several channels comes merged.
    catching_up: Option<Vec<u64>>,
    /// The channels whose missed events the client has got.
    pub(super) replayed: BTreeSet<(usize, String)>,
    pub end: Option<CloseReason>,
    pub hang_up_at: Option<Duration>,
    /// Publishers, by their index in the state, and channels.
    pub registrations: BTreeSet<(usize, String)>,
    active_at: Duration,
    /// Who waits for the end.
    waiting: Vec<Waker>,
}

impl Stream {
    /// Sorted; a name that two publishers have is there twice.
    pub fn channels(&self) -> Vec<String> {
        let names = self.registrations.iter().map(|(_, channel)| channel);
        let mut names: Vec<_> = names.cloned().collect();
        names.sort();
        names
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

    /// Why it ended; where it is still open, the code that asks is woken at the end.
    pub fn ended(&mut self, context: &Context<'_>) -> Option<CloseReason> {
        let known = |waker: &Waker| waker.will_wake(context.waker());
        if self.end.is_none() && !self.waiting.iter().any(known) {
            self.waiting.push(context.waker().clone());
        }
        self.end
    }

    /// Hears an event after all others up to this place.
    pub(super) fn hear(&mut self, now: Duration, place: u64, event: &Event) {
        self.active_at = now;
        let mut index = self.heard.len();
        if let Some(places) = &mut self.catching_up {
            index = places.partition_point(|known| *known <= place);
            places.insert(index, place);
        }
        let heard = Heard {
            at: now,
            id: event.id.as_ref().map(|id| id.as_str().to_owned()),
            event_type: event
                .event_type
                .clone()
                .filter(|name| !name.is_empty())
                .unwrap_or_else(|| "message".to_owned()),
            data: with_lf(event.data.as_str()),
            retry: event.retry,
        };
        self.heard.insert(index, heard);
    }
}

impl State {
    pub fn stream(&mut self, index: usize) -> &mut Stream {
        &mut self.streams[index]
    }

    pub fn upgrade(&mut self, request: &mut RequestState, options: &Upgrade) -> Result<usize> {
        request.check_unanswered()?;
        let allowed = checks::check_upgrade(options)?;
        if let Err(denied) = request.check_origin(&allowed) {
            let text = "Pages of this origin are not allowed to read the stream.\n";
            request.answer_by_host(Response::text(text).status(403));
            return Err(denied);
        }
        if request.is_preflight() {
            request.answer_by_host(Response::new(204));
            return Err(Error::Closed(
                "the request was a CORS preflight for the stream, and has been answered".to_owned(),
            ));
        }
        let index = self.streams.len();
        self.streams.push(Stream {
            id: format!("connection{}", index + 1),
            catching_up: request.last_event_id().map(|_| Vec::new()),
            replayed: BTreeSet::new(),
            last_event_id: request.last_event_id(),
            options: options.clone(),
            heard: Vec::new(),
            end: None,
            hang_up_at: request.hang_up_at,
            registrations: BTreeSet::new(),
            active_at: self.now,
            waiting: Vec::new(),
        });
        request.answer = Some(Answer::Stream(index));
        if request.hang_up_at.is_some_and(|at| at <= self.now) {
            self.end(index, CloseReason::ClientGone);
            return Err(Error::Closed("the client is gone".to_owned()));
        }
        Ok(index)
    }

    /// The handler that opened the stream has returned; the problem is what it did wrong.
    pub fn handler_returned(&mut self, index: usize, problem: Option<&str>) {
        if let Some(problem) = problem {
            // There may be nobody left to be told.
            let _ = self.send(index, &Event::new(problem).event_type("fanfare-error"));
        }
        self.stream(index).catching_up = None;
        if self.stream(index).registrations.is_empty() {
            self.end(index, CloseReason::Closed);
        }
    }

    pub fn send(&mut self, index: usize, event: &Event) -> Result<()> {
        checks::check_event(event)?;
        self.check_open(index)?;
        let (now, place) = (self.now, self.events);
        self.stream(index).hear(now, place, event);
        Ok(())
    }

    pub fn check_open(&self, index: usize) -> Result<()> {
        match self.streams[index].end {
            None => Ok(()),
            Some(_) => Err(Error::Closed("the connection is closed".to_owned())),
        }
    }

    pub fn end(&mut self, index: usize, reason: CloseReason) {
        let stream = &mut self.streams[index];
        if stream.end.is_some() {
            return;
        }
        stream.end = Some(reason);
        stream.waiting.drain(..).for_each(Waker::wake);
        let channels = stream.channels();
        stream.registrations.clear();
        self.disconnections.push(Disconnection {
            connection_id: stream.id.clone(),
            channels,
            reason,
        });
    }
}

/// What a client makes of line endings.
pub(super) fn with_lf(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}
