//! One node for each protocol, and clients that speak it.

use fanfare_tests::{
    client::Request,
    http2::Http2,
    node::Node,
    sse::Event,
    stream::{End, Stream},
    tls::Certificates,
};
use serde_json::json;

use crate::probe;

/// What clients speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    /// HTTP/1.1, plain.
    Http1,
    /// HTTP/1.1 over TLS.
    Tls,
    /// HTTP/2, plain.
    Http2,
    /// HTTP/2 over TLS.
    TlsHttp2,
}

/// A node that serves the probe.
pub(super) struct Server {
    /// The node, for everything that is no stream.
    pub(super) node: Node,
    wire: Wire,
    certificates: Option<Certificates>,
}

impl Server {
    /// A node with these tables in its configuration.
    #[track_caller]
    pub(super) fn start(wire: Wire, tables: &str) -> Self {
        if !matches!(wire, Wire::Tls | Wire::TlsHttp2) {
            let (node, certificates) = (probe::configured(tables), None);
            return Self {
                node,
                wire,
                certificates,
            };
        }
        let certificates = Certificates::new();
        let tls = format!(
            "[listen.tls]\ncertificate = {:?}\nkey = {:?}\n{tables}",
            certificates.certificate(),
            certificates.key()
        );
        let node = probe::configured(&tls).over_tls(certificates.client(&["http/1.1"]));
        Self {
            node,
            wire,
            certificates: Some(certificates),
        }
    }

    /// A stream with a socket of its own.
    #[track_caller]
    pub(super) fn open(&self, request: &Request) -> Stream {
        match self.wire {
            Wire::Http1 | Wire::Tls => self.node.open(request),
            Wire::Http2 | Wire::TlsHttp2 => self.http2().stream(request),
        }
    }

    /// As [`Server::open`], but what is not asked for is not read: from the socket, or more of it than a window of
    /// the stream.
    #[track_caller]
    pub(super) fn stalled(&self, request: &Request) -> Stream {
        match self.wire {
            Wire::Http1 | Wire::Tls => self.node.open(request),
            Wire::Http2 | Wire::TlsHttp2 => self.http2().stalled(request),
        }
    }

    /// A stream that hears a channel.
    #[track_caller]
    pub(super) fn subscribe(&self, channel: &str) -> Stream {
        let steps = json!([["upgrade"], ["register", channel], ["send", "registered"]]);
        let mut stream = self.open(&probe::request("", &steps));
        assert_eq!(stream.next_event().data, "registered");
        stream
    }

    /// What a stalled stream holds that the node has cut: all that had left for it, or over HTTP/2, where a window
    /// stays in the way of the end, what certainly had.
    #[track_caller]
    pub(super) fn left(&self, mut stream: Stream) -> Vec<Event> {
        match self.wire {
            Wire::Http1 | Wire::Tls => {
                let (events, end) = stream.rest();
                assert_eq!(end, End::Cut);
                events
            }
            Wire::Http2 | Wire::TlsHttp2 => vec![stream.next_event()],
        }
    }

    fn http2(&self) -> Http2 {
        match &self.certificates {
            Some(certificates) => {
                Http2::connect_tls(self.node.address, certificates.client(&["h2"]))
            }
            None => Http2::connect(self.node.address),
        }
    }
}
