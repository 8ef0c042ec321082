//! How long each step of a request may take.

use std::time::Duration;

use wasmtime_wasi_http::RequestOptions;

use crate::config;

/// The app's limits, shortened as the guest asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// Address, connection and TLS handshake.
    pub connect: Duration,
    /// From the connection to the head of the response.
    pub first_byte: Duration,
    /// A pause in the body.
    pub between_bytes: Duration,
}

impl Times {
    /// For a request with these options.
    pub fn new(limits: &config::Http, options: Option<RequestOptions>) -> Self {
        let options = options.unwrap_or_default();
        let shorter = |limit: Duration, asked: Option<Duration>| asked.unwrap_or(limit).min(limit);
        Self {
            connect: shorter(limits.connect_timeout, options.connect_timeout),
            first_byte: shorter(limits.first_byte_timeout, options.first_byte_timeout),
            between_bytes: shorter(limits.between_bytes_timeout, options.between_bytes_timeout),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_shorten_limits_and_lengthen_none() {
        let limits = config::Http::default();
        let (short, long) = (Duration::from_millis(1), Duration::from_secs(3600));
        let options = RequestOptions {
            connect_timeout: Some(short),
            first_byte_timeout: Some(long),
            between_bytes_timeout: None,
        };
        let times = Times::new(&limits, Some(options));
        assert_eq!(times.connect, short);
        assert_eq!(times.first_byte, limits.first_byte_timeout);
        assert_eq!(times.between_bytes, limits.between_bytes_timeout);
    }
}
