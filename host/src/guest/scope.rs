//! What a line of the log belongs to: an app, a version of its guest, and a call of that or an instance.
//!
//! Most calls log nothing. What is kept for one is this, some words beside what is there anyway, and the span that writes
//! them into a line is made for the line.

use std::sync::Arc;

use tracing::{Span, error_span};

use super::request::RequestId;
use crate::hub::connection::ConnectionId;

/// What lines of the log belong to. A clone costs next to nothing.
#[derive(Debug, Clone)]
pub struct Scope {
    code: Arc<Named>,
    of: Of,
}

/// A version of an app's guest, by the names that stand in the log.
#[derive(Debug)]
pub struct Named {
    /// The app.
    pub app: String,
    /// The version.
    pub version: String,
}

/// What of a guest.
#[derive(Debug, Clone, Copy)]
pub enum Of {
    /// The call of its server hook.
    Start,
    /// The call of its handler for this request.
    Request(RequestId),
    /// The call of its hook for the end of this connection.
    Disconnected(ConnectionId),
    /// The call of its hook for a channel that became occupied, or vacated.
    Occupancy(bool),
    /// An instance that many calls share.
    Instance(usize),
}

impl Scope {
    /// The scope of a call or an instance of this code.
    pub fn new(code: &Arc<Named>, of: Of) -> Self {
        Self {
            code: code.clone(),
            of,
        }
    }

    /// The span that says all that. Whatever is entered on this thread has no part in it.
    pub fn span(&self) -> Span {
        let Named { app, version } = &*self.code;
        match self.of {
            Of::Start => error_span!(parent: None, "start", %app, %version),
            Of::Request(request) => {
                error_span!(parent: None, "request", %app, %version, %request)
            }
            Of::Disconnected(connection) => {
                error_span!(parent: None, "disconnected", %app, %version, %connection)
            }
            Of::Occupancy(true) => {
                error_span!(parent: None, "channel-occupied", %app, %version)
            }
            Of::Occupancy(false) => {
                error_span!(parent: None, "channel-vacated", %app, %version)
            }
            Of::Instance(instance) => {
                error_span!(parent: None, "instance", %app, %version, instance)
            }
        }
    }

    /// Does what logs something, so that its lines say what they belong to.
    pub fn log<T>(&self, logging: impl FnOnce() -> T) -> T {
        self.span().in_scope(logging)
    }
}

#[cfg(test)]
impl Scope {
    /// One for tests.
    pub fn of_test() -> Self {
        let named = Named {
            app: "chat".into(),
            version: "0123abcd".into(),
        };
        Self::new(&Arc::new(named), Of::Start)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use parking_lot::Mutex;
    use tracing::{
        info,
        subscriber::{NoSubscriber, with_default},
    };

    use super::*;

    struct Writer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Writer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_says_what_it_belongs_to_whatever_runs_around_it() {
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let writer = written.clone();
        let subscriber = tracing_subscriber::fmt()
            .without_time()
            .with_target(false)
            .with_ansi(false)
            .with_writer(move || Writer(writer.clone()))
            .finish();
        // Where there is one subscriber alone, who comes to a line or a scope first decides for all threads whether it
        // is heard of, and that may be a test without any.
        let _other = tracing::Dispatch::new(NoSubscriber::default());
        let call = Scope::of_test();
        let instance = Scope::new(&call.code, Of::Instance(7));
        let request = RequestId::random();
        let handler = Scope::new(&call.code, Of::Request(request));
        with_default(subscriber, || {
            call.log(|| info!("starts"));
            instance.log(|| {
                info!("turns");
                handler.log(|| info!("handles"));
            });
        });
        let written = String::from_utf8(written.lock().clone()).unwrap();
        let named = "app=chat version=0123abcd";
        assert_eq!(
            written.lines().map(str::trim_start).collect::<Vec<_>>(),
            [
                format!("INFO start{{{named}}}: starts"),
                format!("INFO instance{{{named} instance=7}}: turns"),
                format!("INFO request{{{named} request={request}}}: handles"),
            ]
        );
    }
}
