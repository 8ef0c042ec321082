//! Hooks of an app: the ends of connections, and channels that become occupied or vacated, are told to the code that
//! serves then.

use std::sync::Arc;

use futures_util::{StreamExt, future::join_all, stream::FuturesUnordered};
use tokio::sync::{Semaphore, mpsc};
use tracing::{debug, warn};

use super::App;
use crate::{
    broker::publisher::Publisher,
    guest::{
        bindings::fanfare::sse::connections::{self, Disconnection},
        call::{Call, Occupancy},
        code::Code,
        scope::{Of, Scope},
    },
    hub::ended::{Ended, EndedReceiver},
};

/// Calls of `disconnected` at a time: when a thousand clients leave at once, their hooks take turns.
pub const HOOKS_AT_A_TIME: usize = 16;

impl App {
    /// Calls `disconnected` for every connection that ends, where the guest exports it.
    pub(super) async fn run_hooks(self: Arc<Self>, mut ended: EndedReceiver) {
        let room = Arc::new(Semaphore::new(HOOKS_AT_A_TIME));
        while let Some(end) = ended.recv().await {
            debug!(
                app = %self.shared.name,
                connection = %end.connection,
                reason = ?end.reason,
                "connection ended"
            );
            if !self.code.lock().hooks().disconnect {
                continue;
            }
            let room = tokio::select! {
                room = room.clone().acquire_owned() => room,
                () = self.stop.cancelled() => {
                    let untold = ended.len() + 1;
                    warn!(app = %self.shared.name, untold, "stopped before all ends were told to `disconnected`");
                    return;
                }
            };
            let Ok(room) = room else { return };
            let app = self.clone();
            // The code of this moment: a hook for a stream that older code opened is the newer one's.
            let (code, token) = {
                let code = self.code.lock();
                (code.clone(), [self.calls.token(), code.token()])
            };
            let hooked = async move {
                app.run_hook(&code, end).await;
                drop((room, token));
            };
            self.lane.spawn(hooked).detach();
        }
    }

    /// Calls `channel-occupied` and `channel-vacated` for the channels of all publishers, where the guest exports them.
    pub(super) async fn run_occupancy_hooks(
        self: Arc<Self>,
        mut made: mpsc::UnboundedReceiver<Publisher>,
    ) {
        let mut publishers = FuturesUnordered::new();
        loop {
            tokio::select! {
                publisher = made.recv() => match publisher {
                    Some(publisher) => publishers.push(self.clone().tell_occupancy_of(publisher)),
                    None => return,
                },
                Some(()) = publishers.next() => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    /// Tells of the channels of one publisher, for ever. Of each channel in order: the next is told when the last ones
    /// were.
    async fn tell_occupancy_of(self: Arc<Self>, publisher: Publisher) {
        loop {
            let changes = publisher.occupancies().changes().await;
            for changes in changes.chunks(HOOKS_AT_A_TIME) {
                let calls = changes.iter().filter_map(|(channel, occupied)| {
                    let (code, token) = {
                        let code = self.code.lock();
                        (code.clone(), [self.calls.token(), code.token()])
                    };
                    let told = Occupancy {
                        publisher: publisher.clone(),
                        channel: channel.to_string(),
                        occupied: *occupied,
                    };
                    let app = self.clone();
                    code.hooks().occupancy.then(|| {
                        self.lane.spawn(async move {
                            app.run_occupancy_hook(&code, told).await;
                            drop(token);
                        })
                    })
                });
                join_all(calls).await;
            }
        }
    }

    async fn run_occupancy_hook(&self, code: &Code, told: Occupancy) {
        let hook = match told.occupied {
            true => "channel-occupied",
            false => "channel-vacated",
        };
        let what = format!("`{hook}` of channel {:?}", told.channel);
        let of = Of::Occupancy(told.occupied);
        self.call_hook(code, Call::Occupancy(Box::new(told)), of, &what)
            .await;
    }

    async fn run_hook(&self, code: &Code, ended: Ended) {
        let gone = Box::new(Disconnection {
            connection_id: ended.connection.to_string(),
            channels: ended.channels,
            reason: connections::CloseReason::from(ended.reason),
        });
        let of = Of::Disconnected(ended.connection);
        self.call_hook(code, Call::Disconnected(gone), of, "`disconnected`")
            .await;
    }

    /// Calls a hook. There is nobody to tell of a failure but the log.
    async fn call_hook(&self, code: &Code, call: Call, of: Of, what: &str) {
        let scope = Scope::new(&code.named, of);
        if let Err(failure) = code.call(call, &scope).await {
            let text = self.shared.loggable(&format!("{what} {failure}"));
            match failure.stopped {
                Some(_) => scope.log(|| warn!("{text}")),
                None => self.report(&scope, &text),
            }
        }
    }
}
