//! `connections`: the upgrade of a request to an event stream, and the handle to it.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use tracing::debug;
use wasmtime::component::Resource;

use super::events::event;
use crate::{
    config::Origin,
    guest::{
        bindings::fanfare::sse::{
            connections::{Host, HostConnection, UpgradeOptions},
            events::Event,
        },
        error::{HostError, HostResult},
        origin::{self, Cors},
        request::{Answer, RequestHandle},
        state::{ConnectionHandle, State},
    },
    hub::connection::{CloseReason, OpenOptions, Timing},
};

/// A shorter interval would be a load and not a service.
const MIN_INTERVAL_MS: u32 = 100;

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
        };
        let cors = match options.allowed_origins {
            Some(named) => origin::check(&request.incoming, &origins(&named)?),
            None => origin::check(&request.incoming, &streams.allowed_origins),
        };
        let Some(cors) = cors else {
            let origin = request.incoming.headers.get(http::header::ORIGIN);
            request.answer(Answer::Response(forbidden()));
            return Err(HostError::denied(format!(
                "pages of the origin {origin:?} are not allowed to read the stream"
            )));
        };
        if request.incoming.is_preflight() {
            request.set_preflight();
            request.answer(Answer::Response(preflight(&cors)));
            return Err(HostError::closed(
                "the request was a CORS preflight for the stream, and has been answered",
            ));
        }
        let opened = self.shared.hub.open(OpenOptions {
            last_event_id: request.incoming.last_event_id(),
            timing,
            abort: request.incoming.abort.clone(),
        });
        let (connection, delivery) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                request.answer(Answer::Busy(error.to_string()));
                return Err(error.into());
            }
        };
        request.set_connection(connection.clone());
        debug!(connection = %connection.id(), "upgraded to an event stream");
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
    let interval = match given {
        None => configured,
        Some(ms @ 1..MIN_INTERVAL_MS) => {
            return Err(HostError::invalid(format!(
                "{name}: {ms} milliseconds are too few; at least {MIN_INTERVAL_MS}, or 0 for never"
            )));
        }
        Some(ms) => Duration::from_millis(ms.into()),
    };
    Ok((!interval.is_zero()).then_some(interval))
}

fn forbidden() -> http::Response<Bytes> {
    let text = "Pages of this origin are not allowed to read the stream.\n";
    let mut response = http::Response::new(Bytes::from_static(text.as_bytes()));
    *response.status_mut() = StatusCode::FORBIDDEN;
    response
}

fn preflight(cors: &Cors) -> http::Response<Bytes> {
    let mut response = http::Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    cors.write_preflight(response.headers_mut());
    response
}
