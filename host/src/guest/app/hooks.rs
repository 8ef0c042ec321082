//! Hooks of an app: the ends of connections are told to the code that serves then.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tracing::{debug, warn};

use super::App;
use crate::{
    guest::{
        bindings::fanfare::sse::connections::{self, Disconnection},
        call::Call,
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
            if !self.code.lock().is_hooked() {
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

    async fn run_hook(&self, code: &Code, ended: Ended) {
        let scope = Scope::new(&code.named, Of::Disconnected(ended.connection));
        let gone = Box::new(Disconnection {
            connection_id: ended.connection.to_string(),
            channels: ended.channels,
            reason: connections::CloseReason::from(ended.reason),
        });
        if let Err(failure) = code.call(Call::Disconnected(gone), &scope).await {
            let text = self.shared.loggable(&format!("`disconnected` {failure}"));
            match failure.stopped {
                Some(_) => scope.log(|| warn!("{text}")),
                None => self.report(&scope, &text),
            }
        }
    }
}
