//! The way from the response of a connection to its shard.

use std::{net::TcpStream, sync::Arc};

use tokio_util::sync::CancellationToken;

use super::{
    super::Hub,
    Engine, OutletId,
    body::{Body, Feed},
    command::Command,
    outlet::{Framing, Seat},
};

/// What belongs to the response of a connection. Dropping it says that the client is gone.
#[derive(Debug)]
pub struct Delivery {
    engine: Engine,
    hub: Hub,
    outlet: OutletId,
    /// The socket was taken over.
    taken: bool,
}

impl Delivery {
    pub(in super::super) fn new(engine: Engine, hub: Hub, outlet: OutletId) -> Self {
        Self {
            engine,
            hub,
            outlet,
            taken: false,
        }
    }

    /// Writes to this socket from now on. The head of the response must have left, and nothing else may use the
    /// socket. The seat is given back when it is closed.
    pub fn take_over(mut self, stream: TcpStream, framing: Framing, seat: Seat) {
        self.taken = true;
        let command = Command::TakeOver {
            outlet: self.outlet.number,
            stream,
            framing,
            seat,
        };
        self.engine.tell_now(self.outlet.shard, command);
    }

    /// The body of the response, for a library to write. `abort` is cancelled where the client does not read and the
    /// socket is to be dropped.
    pub fn into_body(self, abort: CancellationToken) -> Body {
        let feed = Arc::new(Feed::new(self.hub.clone(), abort));
        let command = Command::Feed {
            outlet: self.outlet.number,
            feed: feed.clone(),
        };
        self.engine.tell_now(self.outlet.shard, command);
        Body::new(feed, self)
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if !self.taken {
            let command = Command::Gone {
                outlet: self.outlet.number,
            };
            self.engine.tell_now(self.outlet.shard, command);
        }
    }
}
