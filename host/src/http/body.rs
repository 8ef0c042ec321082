//! The body of a request: read completely before a handler sees it, within limits of its own and of the node.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// What bodies may take together is counted in pieces of so many bytes.
const PIECE: usize = 1024;

/// Room for the bodies of all requests of a node.
#[derive(Debug, Clone)]
pub struct Bodies {
    /// How long a client may take to send one.
    timeout: Duration,
    /// Pieces that are left.
    room: Arc<Semaphore>,
}

/// Why a body was not read: a status, and a sentence for the client.
#[derive(Debug)]
pub struct Refused(pub StatusCode, pub String);

impl Bodies {
    /// Room for so many bytes.
    pub fn new(bytes: u64, timeout: Duration) -> Self {
        let pieces = usize::try_from(bytes).unwrap_or(usize::MAX) / PIECE;
        Self {
            timeout,
            room: Arc::new(Semaphore::new(pieces.min(Semaphore::MAX_PERMITS))),
        }
    }

    /// Reads a body of at most so many bytes, and the room that it takes for as long as it is held. `setting` is where the
    /// limit is set, for the client. What is refused is not read to its end.
    pub async fn read(
        &self,
        body: &mut Incoming,
        limit: u64,
        setting: &str,
    ) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Refused> {
        if body.is_end_stream() {
            return Ok((Bytes::new(), None));
        }
        // A length that is announced is refused before it is sent.
        if body.size_hint().lower() > limit {
            return Err(too_large(limit, setting));
        }
        let read = timeout(self.timeout, self.collect(body, limit, setting)).await;
        let late = |_| {
            Refused(
                StatusCode::REQUEST_TIMEOUT,
                "The body took too long.".into(),
            )
        };
        read.map_err(late)?
    }

    async fn collect(
        &self,
        body: &mut Incoming,
        limit: u64,
        setting: &str,
    ) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Refused> {
        let mut bytes = BytesMut::new();
        let mut room: Option<OwnedSemaphorePermit> = None;
        while let Some(frame) = body.frame().await {
            let broken = |_| {
                let text = "The body ended before it was complete.";
                Refused(StatusCode::BAD_REQUEST, text.into())
            };
            let Ok(data) = frame.map_err(broken)?.into_data() else {
                continue;
            };
            let length = bytes.len() + data.len();
            if length as u64 > limit {
                return Err(too_large(limit, setting));
            }
            let pieces = length.div_ceil(PIECE) - bytes.len().div_ceil(PIECE);
            let taken = self.room.clone().try_acquire_many_owned(pieces as u32);
            let taken = taken.map_err(|_| {
                let text = "The node has no room for more bodies; come back later.";
                Refused(StatusCode::SERVICE_UNAVAILABLE, text.into())
            })?;
            match &mut room {
                Some(room) => room.merge(taken),
                None => room = Some(taken),
            }
            bytes.extend_from_slice(&data);
        }
        Ok((bytes.freeze(), room))
    }
}

fn too_large(limit: u64, setting: &str) -> Refused {
    Refused(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("The body is over {setting} of {limit} bytes."),
    )
}
