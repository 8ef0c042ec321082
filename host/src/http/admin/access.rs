//! Who may ask: whoever brings the token or, where there is none, this machine and no page.

use http::{HeaderMap, HeaderValue, Response, StatusCode, Uri, header};
use sha2::{Digest, Sha256};
use std::net::{Ipv4Addr, Ipv6Addr};
use subtle::ConstantTimeEq;

use crate::{
    config::Secret,
    http::response::{Body, plain},
};

/// What lets a request in.
#[derive(Clone)]
pub struct Access {
    /// The digest of the token, so that what is compared always has the same length.
    token: Option<[u8; 32]>,
    development: bool,
}

impl Access {
    /// Access with this token. Without one, what changes the node is for one in development.
    pub fn new(token: Option<&Secret>, development: bool) -> Self {
        let digest = |token: &Secret| Sha256::digest(token.expose()).into();
        Self {
            token: token.map(digest),
            development,
        }
    }

    /// Refuses who must not read. Health is for everybody who reaches a listener with a token.
    pub fn check(
        &self,
        is_health: bool,
        target: &Uri,
        headers: &HeaderMap,
    ) -> Result<(), Box<Response<Body>>> {
        match &self.token {
            Some(_) if is_health => Ok(()),
            Some(token) if has_token(headers, token) => Ok(()),
            Some(_) => Err(Box::new(unauthorized(headers))),
            None if is_for_this_machine(target, headers) => Ok(()),
            None => Err(Box::new(plain(
                StatusCode::MISDIRECTED_REQUEST,
                "The admin listener is asked for by an IP address or as localhost, and by no other name: a page could \
                 make a browser ask by the page's own.",
            ))),
        }
    }

    /// Refuses who must not change anything: pages, always, and everybody where a token is needed and there is none.
    pub fn check_change(&self, headers: &HeaderMap) -> Result<(), Box<Response<Body>>> {
        let refusal = if headers.contains_key(header::ORIGIN) {
            "No page may change anything here."
        } else if self.token.is_none() && !self.development {
            "Nothing can be deployed to this node without a token: set `admin.token` in its fanfare.toml, or the variable \
             FANFARE_ADMIN_TOKEN, and start it anew."
        } else {
            return Ok(());
        };
        Err(Box::new(plain(StatusCode::FORBIDDEN, refusal)))
    }
}

/// Whether a request brings the token (RFC 6750, section 2.1). How long that takes tells nothing about it.
fn has_token(headers: &HeaderMap, token: &[u8; 32]) -> bool {
    let given = headers.get(header::AUTHORIZATION).and_then(bearer);
    given.is_some_and(|given| bool::from(Sha256::digest(given).ct_eq(token)))
}

/// The token that a header brings. The name of the scheme may be in any case (RFC 9110, section 11.1).
fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, token) = value.as_bytes().split_at_checked("Bearer ".len())?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then(|| token.trim_ascii())
}

fn unauthorized(headers: &HeaderMap) -> Response<Body> {
    let given = headers.get(header::AUTHORIZATION).and_then(bearer);
    let text = match given {
        Some(_) => "The token that was given is not this node's.",
        None => "This needs the node's token, as `Authorization: Bearer …`.",
    };
    let mut response = plain(StatusCode::UNAUTHORIZED, text);
    let scheme = HeaderValue::from_static("Bearer");
    response
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, scheme);
    response
}

/// Whether a request names the node by nothing that anybody else could have chosen. A page may give its own name this
/// machine's address (DNS rebinding), and read what a browser is told under that name; it cannot do so with an address
/// or `localhost`.
fn is_for_this_machine(target: &Uri, headers: &HeaderMap) -> bool {
    let hosts = headers.get_all(header::HOST).iter();
    let mut hosts = hosts.map(|host| host.to_str().unwrap_or("?"));
    let target = target.authority().map(|authority| authority.as_str());
    hosts.all(is_own_name) && target.is_none_or(is_own_name)
}

/// Whether this is an IP address, `localhost` or nothing, with or without a port.
fn is_own_name(authority: &str) -> bool {
    let (host, port) = match authority.rsplit_once(':') {
        // What stands behind the last colon of an IPv6 address alone is no port.
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (authority, ""),
    };
    let address = match host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => host.parse::<Ipv4Addr>().is_ok(),
    };
    let named = host.is_empty() || host.eq_ignore_ascii_case("localhost");
    (address || named) && port.bytes().all(|digit| digit.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_the_whole_of_what_is_given() {
        let token = Sha256::digest("0123456789abcdef").into();
        let brings = |value: &str| {
            let value = HeaderValue::from_str(value).unwrap();
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value)]);
            has_token(&headers, &token)
        };
        assert!(brings("Bearer 0123456789abcdef"));
        assert!(brings("bearer  0123456789abcdef "));
        for wrong in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer 0123456789abcde",
            "Bearer 0123456789abcdef0",
            "Bearer 0123456789abcdeF",
            "Basic 0123456789abcdef",
            "0123456789abcdef",
            "Bearer0123456789abcdef",
        ] {
            assert!(!brings(wrong), "{wrong}");
        }
        assert!(!has_token(&HeaderMap::new(), &token));
    }

    #[test]
    fn without_a_token_a_node_in_production_is_changed_by_nobody() {
        let token = Secret::new("0123456789abcdef");
        let no_page = HeaderMap::new();
        let origin = HeaderValue::from_static("http://localhost:3000");
        let page = HeaderMap::from_iter([(header::ORIGIN, origin)]);
        for (token, development, allowed) in [
            (None, false, false),
            (None, true, true),
            (Some(&token), false, true),
            (Some(&token), true, true),
        ] {
            let access = Access::new(token, development);
            assert_eq!(access.check_change(&no_page).is_ok(), allowed);
            assert!(access.check_change(&page).is_err());
        }
    }

    #[test]
    fn only_names_that_nobody_can_choose_are_own() {
        for own in [
            "",
            "localhost",
            "LocalHost:9090",
            "127.0.0.1",
            "127.0.0.1:9090",
            "10.1.2.3:80",
            "[::1]",
            "[::1]:9090",
            "[2001:db8::1]:80",
        ] {
            assert!(is_own_name(own), "{own}");
        }
        for foreign in [
            "example.org",
            "example.org:9090",
            "localhost.example.org",
            "127.0.0.1.example.org",
            "127.0.0.1@example.org",
            "user@127.0.0.1",
            "127.0.0.1:80:80",
            "127.1",
            "::1",
            "[::1",
            "[example.org]",
            "[127.0.0.1]:80",
            "localhost:x",
            "?",
        ] {
            assert!(!is_own_name(foreign), "{foreign}");
        }
    }

    #[test]
    fn every_name_that_a_request_has_counts() {
        let asks = |target: &str, hosts: &[&'static str]| {
            let headers = hosts
                .iter()
                .map(|host| (header::HOST, HeaderValue::from_static(host)));
            is_for_this_machine(&target.parse().unwrap(), &headers.collect())
        };
        assert!(asks("/metrics", &[]));
        assert!(asks("/metrics", &["127.0.0.1:9090"]));
        assert!(asks("http://localhost/metrics", &["localhost"]));
        assert!(!asks("http://example.org/metrics", &["localhost"]));
        assert!(!asks("http://localhost/metrics", &["example.org"]));
        assert!(!asks("/metrics", &["localhost", "example.org"]));
        let odd = HeaderValue::from_bytes(b"\xff").unwrap();
        let odd = HeaderMap::from_iter([(header::HOST, odd)]);
        assert!(!is_for_this_machine(&"/metrics".parse().unwrap(), &odd));
    }
}
