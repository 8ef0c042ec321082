//! Where streams are opened, and what they ask.

use std::{
    net::{SocketAddr, ToSocketAddrs},
    str::FromStr,
};

use anyhow::{Context, Error, Result, bail, ensure};

/// What stands for the number of a stream.
const NUMBER: &str = "{n}";

/// An address such as `http://127.0.0.1:8080/events?channel=c-{n}`: `{n}` becomes the number of the stream, from 0.
#[derive(Clone, Debug)]
pub struct Target {
    /// What was given.
    text: String,
    /// What goes into `Host`.
    host: String,
    /// Path and query.
    path: String,
    address: SocketAddr,
}

impl Target {
    /// Where to connect: the first address of the host, looked up once.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A request that is for no stream.
    pub(crate) fn plain_request(&self) -> Vec<u8> {
        format!("GET {} HTTP/1.1\r\nHost: {}\r\n\r\n", self.path, self.host).into_bytes()
    }

    /// The request of a stream.
    pub(crate) fn request(
        &self,
        number: usize,
        headers: &[(String, String)],
        last_event_id: Option<&[u8]>,
    ) -> Vec<u8> {
        let path = self.path.replace(NUMBER, &number.to_string());
        let mut request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nAccept: text/event-stream\r\n",
            self.host
        );
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        let mut request = request.into_bytes();
        if let Some(id) = last_event_id {
            request.extend_from_slice(b"Last-Event-ID: ");
            request.extend_from_slice(id);
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        request
    }
}

impl FromStr for Target {
    type Err = Error;

    /// Fails for what is no `http://` address, and for a host that has none.
    fn from_str(text: &str) -> Result<Self> {
        if text.starts_with("https://") {
            bail!("{text}: https is not supported; measure the server behind its proxy, by http");
        }
        let Some(rest) = text.strip_prefix("http://") else {
            bail!("{text}: an address starts with http://");
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (host, path) = rest.split_at(end);
        ensure!(
            !host.is_empty() && !host.contains('@'),
            "{text}: a host stands after http://"
        );
        ensure!(
            !path.contains(|char: char| char.is_ascii_control() || char == ' '),
            "{text}: a space is written %20"
        );
        let slash = if path.starts_with('/') { "" } else { "/" };
        let with_port = match host.rsplit_once(':') {
            Some((_, port)) if port.parse::<u16>().is_ok() => host.to_owned(),
            _ => format!("{host}:80"),
        };
        let address = with_port
            .to_socket_addrs()
            .with_context(|| format!("cannot find {host}"))?
            .next()
            .with_context(|| format!("{host} has no address"))?;
        Ok(Self {
            text: text.to_owned(),
            host: host.to_owned(),
            path: format!("{slash}{path}"),
            address,
        })
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(target: &str) -> String {
        let target: Target = target.parse().unwrap();
        String::from_utf8(target.request(7, &[], None)).unwrap()
    }

    #[test]
    fn an_address_becomes_a_request() {
        let target: Target = "http://127.0.0.1:81/a?b=c-{n}".parse().unwrap();
        assert_eq!(target.address(), "127.0.0.1:81".parse().unwrap());
        let headers = [("x-y".to_owned(), "z".to_owned())];
        assert_eq!(
            String::from_utf8(target.request(12, &headers, Some(b"e-1"))).unwrap(),
            "GET /a?b=c-12 HTTP/1.1\r\nHost: 127.0.0.1:81\r\nAccept: text/event-stream\r\n\
             x-y: z\r\nLast-Event-ID: e-1\r\n\r\n"
        );
        assert!(request("http://127.0.0.1").starts_with("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"));
        assert!(
            request("http://[::1]:81?q#f").starts_with("GET /?q HTTP/1.1\r\nHost: [::1]:81\r\n")
        );
        let target: Target = "http://[::1]/".parse().unwrap();
        assert_eq!(target.address(), "[::1]:80".parse().unwrap());
    }

    #[test]
    fn what_is_none_is_refused() {
        for (text, says) in [
            ("https://a.example/", "https is not supported"),
            ("ftp://a.example/", "starts with http://"),
            ("http:///x", "a host"),
            ("http://me@127.0.0.1/", "a host"),
            ("http://127.0.0.1/a b", "%20"),
            ("http://127.0.0.1/\r\nX: y", "%20"),
        ] {
            let error = text.parse::<Target>().unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
