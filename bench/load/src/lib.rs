//! A load generator for event streams: it opens many, checks what it hears, and costs little.
//!
//! One thread and one `epoll` hold all streams of a [`Load`]. A stream that waits takes a few hundred bytes; hearing an
//! event allocates nothing. What is measured is the server, then, not the client.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use fanfare_load::{Load, Plan};
//!
//! let plan = Plan::new("http://127.0.0.1:8080/events?channel=c-{n}".parse()?, 1000);
//! let load = Load::start(plan)?;
//! load.wait(Duration::from_secs(10), |progress| progress.open == 1000);
//! load.reset()?; // measure from here
//! std::thread::sleep(Duration::from_secs(10));
//! let report = load.stop(None)?;
//! println!("{} events, p99 {} µs", report.events, report.latency.value_at_quantile(0.99));
//! # Ok::<(), anyhow::Error>(())
//! ```
//!
//! # Layout
//!
//! | module | concept |
//! |---|---|
//! | `target` | [`Target`]: where streams are opened, and what they ask |
//! | `plan` | [`Plan`]: how many, how fast, what they are to do |
//! | `source` | sockets: the addresses they come from, and those of readers that get stuck |
//! | `head` | the head of a response |
//! | `body` | how a body's bytes are framed: chunked, by a length, or by the end |
//! | `sse` | the event stream format, from any split of bytes |
//! | `sequence` | whether a stream heard all events of its channel, once, in order and whole |
//! | `stream` | one stream, from its connect to its end |
//! | `engine` | the thread that holds them all |
//! | `load` | [`Load`]: that thread from outside |
//! | `report` | [`Report`]: what was measured |
//! | `requests` | [`Requests`]: what is answered at once, one after another, for as long as it is measured |
//! | `options` | [`Options`]: all that as a command |

mod body;
mod engine;
mod head;
mod load;
mod options;
mod plan;
mod report;
mod requests;
mod sequence;
mod source;
mod sse;
mod stream;
mod target;

pub use load::{Load, Progress};
pub use options::Options;
pub use plan::{Expect, Plan};
pub use report::{Quantiles, Report, Summary};
pub use requests::{Answers, Requests};
pub use sequence::Faults;
pub use target::Target;
