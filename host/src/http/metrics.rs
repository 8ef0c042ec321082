//! Which metrics there are. Their labels are apps and reasons, which the configuration and the code bound; never
//! channels, clients or connections.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::exposition::Exposition;
use crate::{
    guest::{
        app::{App, Phase},
        limits::Limit,
        outgoing::Ending,
    },
    hub::{Figures, delivery::Engine},
};

/// A metric with one sample for each app: its name, its help, and where its value is.
type OfApp<F, V> = (&'static str, &'static str, fn(&F) -> V);

const APP_GAUGES: [OfApp<AppFigures, usize>; 7] = [
    (
        "fanfare_app_serving",
        "Whether the app takes requests: 1, or 0 before its start has succeeded and during shutdown.",
        |app| app.serving.into(),
    ),
    (
        "fanfare_calls",
        "Calls of the guest in flight, hooks included; `limits.calls` bounds those of its handler.",
        |app| app.calls,
    ),
    ("fanfare_connections", "Open event streams.", |app| {
        app.hub.connections
    }),
    (
        "fanfare_channels",
        "Channels that somebody hears or that have a history.",
        |app| app.hub.channels,
    ),
    (
        "fanfare_queued_bytes",
        "Bytes that wait for clients.",
        |app| app.hub.queued_bytes,
    ),
    (
        "fanfare_history_bytes",
        "Bytes that the histories of all channels take; `history.total-bytes` bounds them.",
        |app| app.hub.history_bytes,
    ),
    (
        "fanfare_outgoing_requests_in_flight",
        "Requests of guests that are in flight; `http.requests` bounds them.",
        |app| app.outgoing_in_flight,
    ),
];

const APP_COUNTERS: [OfApp<Figures, u64>; 5] = [
    (
        "fanfare_events_published_total",
        "Events that were published, duplicates left out; over Redis, those that this node heard of.",
        |hub| hub.published,
    ),
    (
        "fanfare_events_duplicate_total",
        "Events that were dropped because their channel had their id already.",
        |hub| hub.duplicates,
    ),
    (
        "fanfare_events_delivered_total",
        "Events that were handed to sockets, once for each stream.",
        |hub| hub.delivered,
    ),
    (
        "fanfare_channels_resumed_total",
        "Channels on which a client that came back went on without a gap.",
        |hub| hub.resumed,
    ),
    (
        "fanfare_gaps_total",
        "Gaps that clients were told of.",
        |hub| hub.gaps,
    ),
];

/// The node at a time.
#[derive(Debug, Clone)]
pub struct NodeFigures {
    /// When its process was started.
    pub started: SystemTime,
    /// Streams of all apps that hold a socket.
    pub streams: usize,
    /// Bytes that wait for clients.
    pub queued_bytes: usize,
}

/// An app at a time.
#[derive(Debug, Clone)]
pub struct AppFigures {
    /// Its name.
    pub name: String,
    /// Whether it takes requests.
    pub serving: bool,
    /// Calls in flight.
    pub calls: usize,
    /// How often each of its limits was reached.
    pub limits: [(Limit, u64); Limit::ALL.len()],
    /// Its hub.
    pub hub: Figures,
    /// What its requests were answered with.
    pub answers: [(&'static str, u64); 4],
    /// How many requests of its guest are in flight.
    pub outgoing_in_flight: usize,
    /// How those ended that are not.
    pub outgoing: [(Ending, u64); Ending::ALL.len()],
}

impl NodeFigures {
    /// Looks at a node that was started then.
    pub fn of(started: SystemTime, delivery: &Engine) -> Self {
        Self {
            started,
            streams: delivery.connections(),
            queued_bytes: delivery.queued_bytes(),
        }
    }
}

impl AppFigures {
    /// Looks at an app.
    pub fn of(app: &App) -> Self {
        Self {
            name: app.shared.name.clone(),
            serving: app.phase() == Phase::Serving,
            calls: app.calls(),
            limits: app.shared.reached.figures(),
            hub: app.shared.hub.figures(),
            answers: app.answers.figures(),
            outgoing_in_flight: app.shared.outgoing.in_flight(),
            outgoing: app.shared.outgoing.endings(),
        }
    }
}

/// The page of metrics.
pub fn page(node: &NodeFigures, apps: &[AppFigures]) -> String {
    let mut page = Exposition::default();
    of_node(node, &mut page);
    of_apps(apps, &mut page);
    page.into_text()
}

fn of_node(node: &NodeFigures, page: &mut Exposition) {
    let version = env!("CARGO_PKG_VERSION");
    page.gauge("fanfare_info", "The node, always 1.")
        .sample(&[("version", version)], 1);
    let started = node.started.duration_since(UNIX_EPOCH);
    page.gauge(
        "process_start_time_seconds",
        "When the process was started, in seconds since 1970.",
    )
    .sample(&[], started.as_ref().map_or(0.0, Duration::as_secs_f64));
    page.gauge(
        "fanfare_node_streams",
        "Event streams of all apps that hold a socket; `node.connections` bounds them.",
    )
    .sample(&[], node.streams);
    page.gauge(
        "fanfare_node_queued_bytes",
        "Bytes that wait for clients of all apps; `node.queued-bytes` bounds them.",
    )
    .sample(&[], node.queued_bytes);
}

fn of_apps(apps: &[AppFigures], page: &mut Exposition) {
    for (name, help, value) in APP_GAUGES {
        let mut metric = page.gauge(name, help);
        for app in apps {
            metric.sample(&[("app", &app.name)], value(app));
        }
    }
    for (name, help, value) in APP_COUNTERS {
        let mut metric = page.counter(name, help);
        for app in apps {
            metric.sample(&[("app", &app.name)], value(&app.hub));
        }
    }
    let mut closed = page.counter(
        "fanfare_connections_closed_total",
        "Event streams that have ended, by the reason.",
    );
    for app in apps {
        for (reason, count) in app.hub.closed {
            closed.sample(&[("app", &app.name), ("reason", reason.name())], count);
        }
    }
    let mut requests = page.counter(
        "fanfare_requests_total",
        "Requests for the app that were answered, by what with; busy are those that were told to come back.",
    );
    for app in apps {
        for (answer, count) in app.answers {
            requests.sample(&[("app", &app.name), ("answer", answer)], count);
        }
    }
    let mut outgoing = page.counter(
        "fanfare_outgoing_requests_total",
        "Requests of guests that have ended, by how; denied and limited ones were not sent.",
    );
    for app in apps {
        for (ending, count) in app.outgoing {
            outgoing.sample(&[("app", &app.name), ("ending", ending.name())], count);
        }
    }
    let mut reached = page.counter(
        "fanfare_limits_reached_total",
        "How often something was refused or stopped because a limit of the app was reached, by the limit.",
    );
    for app in apps {
        for (limit, count) in app.limits {
            reached.sample(&[("app", &app.name), ("limit", limit.name())], count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::connection::CloseReason;

    #[test]
    fn the_page_has_all_figures_of_node_and_apps() {
        let node = NodeFigures {
            started: UNIX_EPOCH + Duration::from_millis(1_700_000_000_250),
            streams: 3,
            queued_bytes: 4,
        };
        let app = |name: &str| AppFigures {
            name: name.into(),
            serving: name == "a",
            calls: 1,
            limits: Limit::ALL.map(|limit| (limit, 30 + limit as u64)),
            hub: Figures {
                connections: 1,
                channels: 2,
                queued_bytes: 3,
                history_bytes: 4,
                published: 5,
                duplicates: 6,
                delivered: 7,
                resumed: 8,
                gaps: 9,
                closed: CloseReason::ALL.map(|reason| (reason, 10 + reason as u64)),
            },
            answers: [
                ("response", 20),
                ("stream", 21),
                ("busy", 22),
                ("failed", 23),
            ],
            outgoing_in_flight: 24,
            outgoing: Ending::ALL.map(|ending| (ending, 30 + ending as u64)),
        };
        let page = page(&node, &[app("a"), app("b")]);
        let samples: Vec<_> = page.lines().filter(|line| !line.starts_with('#')).collect();
        let mut expected = vec![
            format!(
                "fanfare_info{{version=\"{}\"}} 1",
                env!("CARGO_PKG_VERSION")
            ),
            "process_start_time_seconds 1700000000.25".into(),
            "fanfare_node_streams 3".into(),
            "fanfare_node_queued_bytes 4".into(),
        ];
        expected.push("fanfare_app_serving{app=\"a\"} 1".into());
        expected.push("fanfare_app_serving{app=\"b\"} 0".into());
        for (name, value) in [
            ("fanfare_calls", 1),
            ("fanfare_connections", 1),
            ("fanfare_channels", 2),
            ("fanfare_queued_bytes", 3),
            ("fanfare_history_bytes", 4),
            ("fanfare_outgoing_requests_in_flight", 24),
            ("fanfare_events_published_total", 5),
            ("fanfare_events_duplicate_total", 6),
            ("fanfare_events_delivered_total", 7),
            ("fanfare_channels_resumed_total", 8),
            ("fanfare_gaps_total", 9),
        ] {
            expected.extend(["a", "b"].map(|app| format!("{name}{{app=\"{app}\"}} {value}")));
        }
        for app in ["a", "b"] {
            let reasons = [
                "client-gone",
                "closed",
                "inactive",
                "expired",
                "slow",
                "shutdown",
            ];
            expected.extend(reasons.iter().zip(10..).map(|(reason, value)| {
                format!(
                    "fanfare_connections_closed_total{{app=\"{app}\",reason=\"{reason}\"}} {value}"
                )
            }));
        }
        for app in ["a", "b"] {
            let answers = ["response", "stream", "busy", "failed"];
            expected.extend(answers.iter().zip(20..).map(|(answer, value)| {
                format!("fanfare_requests_total{{app=\"{app}\",answer=\"{answer}\"}} {value}")
            }));
        }
        for app in ["a", "b"] {
            let endings = ["complete", "cancelled", "failed", "denied", "limited"];
            expected.extend(endings.iter().zip(30..).map(|(ending, value)| {
                format!(
                    "fanfare_outgoing_requests_total{{app=\"{app}\",ending=\"{ending}\"}} {value}"
                )
            }));
        }
        for app in ["a", "b"] {
            expected.extend(Limit::ALL.iter().zip(30..).map(|(limit, value)| {
                let limit = limit.name();
                format!("fanfare_limits_reached_total{{app=\"{app}\",limit=\"{limit}\"}} {value}")
            }));
        }
        assert_eq!(samples, expected);
    }

    #[test]
    fn a_node_without_apps_has_a_page() {
        let node = NodeFigures {
            started: UNIX_EPOCH,
            streams: 0,
            queued_bytes: 0,
        };
        assert!(page(&node, &[]).contains("\nprocess_start_time_seconds 0\n"));
    }
}
