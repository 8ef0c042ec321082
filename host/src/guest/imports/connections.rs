//! `connections`: the upgrade of a request to an event stream, and the handle to it.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tracing::{Level, debug, enabled};
use wasmtime::component::Resource;

use super::events::event;
use crate::{
    config::{Origin, SHORTEST_INTERVAL},
    guest::{
        bindings::fanfare::sse::{
            connections::{self, Host, HostConnection, UpgradeOptions},
            events::Event,
        },
        error::{HostError, HostResult},
        origin,
        request::{Answer, RequestHandle},
        state::{ConnectionHandle, State},
    },
    hub::connection::{CloseReason, OpenOptions, Timing},
};

impl Host for State {
    fn upgrade(
        &mut self,
        request: Resource<RequestHandle>,
        options: UpgradeOptions,
    ) -> HostResult<Resource<ConnectionHandle>> {
        let request = self.table.get(&request)?.clone();
        request.check_unanswered()?;
        let streams = &self.shared.streams;
        let timing = Timing {
            ping: interval(
                "ping-interval",
                options.ping_interval,
                streams.ping_interval,
            )?,
            inactivity: interval(
                "inactivity-timeout",
                options.inactivity_timeout,
                streams.inactivity_timeout,
            )?,
            lifetime: (!streams.max_lifetime.is_zero()).then_some(streams.max_lifetime),
        };
        let cors = match options.allowed_origins {
            Some(named) => origin::check(&request.incoming, &origins(&named)?),
            None => origin::check(&request.incoming, &streams.allowed_origins),
        };
        let Some(cors) = cors else {
            let origin = request.incoming.headers.get(header::ORIGIN);
            let origin = origin.map_or_else(String::new, |origin| {
                String::from_utf8_lossy(origin).into_owned()
            });
            request.answer_by_host(Answer::Response(forbidden()));
            return Err(HostError::denied(format!(
                "pages of the origin {origin:?} are not allowed to read the stream"
            )));
        };
        if request.incoming.is_preflight() {
            let asked = HeaderMap::from(&request.incoming.headers);
            request.answer_by_host(Answer::Response(cors.preflight(&asked)));
            return Err(HostError::closed(
                "the request was a CORS preflight for the stream, and has been answered",
            ));
        }
        if request.is_abandoned() {
            return Err(HostError::closed("the client is gone"));
        }
        let opened = self.shared.hub.open(OpenOptions {
            last_event_id: request.incoming.last_event_id(),
            timing,
            client: Some(request.incoming.client),
        });
        let (connection, delivery) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                request.answer_by_host(Answer::Busy(error.to_string()));
                return Err(error.into());
            }
        };
        request.set_connection(connection.clone());
        if connection.last_event_id().is_some() {
            self.held.lock().push(connection.clone());
        }
        if enabled!(Level::DEBUG) {
            let id = connection.id();
            self.scope
                .log(|| debug!(connection = %id, "upgraded to an event stream"));
        }
        if !request.answer(Answer::Stream { cors, delivery }) {
            return Err(HostError::closed("the client is gone"));
        }
        Ok(self.table.push(connection)?)
    }
}

impl HostConnection for State {
    fn id(&mut self, connection: Resource<ConnectionHandle>) -> wasmtime::Result<String> {
        Ok(self.table.get(&connection)?.id().to_string())
    }

    fn last_event_id(
        &mut self,
        connection: Resource<ConnectionHandle>,
    ) -> wasmtime::Result<Option<String>> {
        Ok(self
            .table
            .get(&connection)?
            .last_event_id()
            .map(str::to_owned))
    }

    fn channels(
        &mut self,
        connection: Resource<ConnectionHandle>,
    ) -> wasmtime::Result<Vec<String>> {
        Ok(self.shared.hub.channels(self.table.get(&connection)?))
    }

    fn send(&mut self, connection: Resource<ConnectionHandle>, sent: Event) -> HostResult<()> {
        let sent = event(sent, self.shared.limits.event_data as usize)?;
        Ok(self.shared.hub.send(self.table.get(&connection)?, &sent)?)
    }

    fn is_open(&mut self, connection: Resource<ConnectionHandle>) -> wasmtime::Result<bool> {
        Ok(self.table.get(&connection)?.is_open())
    }

    fn close(&mut self, connection: Resource<ConnectionHandle>) -> wasmtime::Result<()> {
        self.shared
            .hub
            .close(self.table.get(&connection)?, CloseReason::Closed);
        Ok(())
    }

    fn drop(&mut self, connection: Resource<ConnectionHandle>) -> wasmtime::Result<()> {
        self.table.delete(connection)?;
        Ok(())
    }
}

impl From<CloseReason> for connections::CloseReason {
    fn from(reason: CloseReason) -> Self {
        match reason {
            CloseReason::ClientGone => Self::ClientGone,
            CloseReason::Closed => Self::Closed,
            CloseReason::Inactive => Self::Inactive,
            CloseReason::Expired => Self::Expired,
            CloseReason::Slow => Self::Slow,
            CloseReason::Shutdown => Self::Shutdown,
        }
    }
}

fn origins(named: &[String]) -> Result<Vec<Origin>, HostError> {
    let parse = |origin: &String| {
        let parsed = origin.parse::<Origin>();
        parsed.map_err(|error| HostError::invalid(format!("allowed-origins: {origin:?}: {error}")))
    };
    named.iter().map(parse).collect()
}

fn interval(
    name: &str,
    given: Option<u32>,
    configured: Duration,
) -> Result<Option<Duration>, HostError> {
    let interval = given.map_or(configured, |ms| Duration::from_millis(ms.into()));
    if !interval.is_zero() && interval < SHORTEST_INTERVAL {
        return Err(HostError::invalid(format!(
            "{name}: {interval:?} is too short; at least {SHORTEST_INTERVAL:?}, or 0 for never"
        )));
    }
    Ok((!interval.is_zero()).then_some(interval))
}

fn forbidden() -> http::Response<Bytes> {
    let text = "Pages of this origin are not allowed to read the stream.\n";
    let mut response = http::Response::new(Bytes::from_static(text.as_bytes()));
    *response.status_mut() = StatusCode::FORBIDDEN;
    let media = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, media);
    response
}
