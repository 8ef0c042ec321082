//! A kit: a server, and the brokers over it.

use std::time::Duration;

use fanfare::broker::{Broker, Retention};
use fanfare_tests::servers::proxy::Proxy;

/// What a test needs of a broker.
pub trait Kit: Send + Sync + Sized + 'static {
    /// What it is called in reports.
    const NAME: &'static str;

    /// Starts a server of its own, which keeps what it accepted when it is killed and restarted.
    fn start() -> Self;

    /// Starts one that the test will kill or freeze: where servers take long to start, tests that break nothing may share
    /// one.
    fn start_to_break() -> Self {
        Self::start()
    }

    /// Starts one that its brokers reach over this proxy alone. `None` where there is no connection that could be cut, or
    /// where servers send their clients on to one another.
    fn start_behind(_proxy: &Proxy) -> Option<Self> {
        None
    }

    /// A broker of a node, over the log of this name. Nothing that it is asked for takes longer than [`TIMEOUT`].
    fn broker(&self, log: &str, retention: Retention) -> Box<dyn Broker>;

    /// Kills the server without warning.
    fn kill(&mut self);

    /// Starts it again.
    fn restart(&mut self);

    /// Lets it stand still, with all its sockets open.
    fn freeze(&self);

    /// Lets it go on.
    fn thaw(&self);

    /// Whether a node is told who hears channels at others.
    fn tells_members(&self) -> bool {
        true
    }
}

/// How long a broker waits for its server.
pub const TIMEOUT: Duration = Duration::from_secs(4);

/// How long publishing waits until the node's own clients were delivered to, at most: on a machine that stands still for so
/// long nobody may have been yet.
pub const ECHO: Duration = Duration::from_secs(1);

/// What a broker keeps where a test does not say otherwise.
pub const RETENTION: Retention = Retention {
    events: 1000,
    age: Duration::from_secs(600),
};
