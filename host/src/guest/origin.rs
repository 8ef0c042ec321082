//! Origins: which pages may read a stream (Fetch standard, "CORS protocol").

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::request::Incoming;
use crate::config::Origin;

/// Browsers ask again after so many seconds; two hours is the most that Chromium takes.
const PREFLIGHT_SECONDS: &str = "7200";

/// What a response says about who may read it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cors {
    /// `Access-Control-Allow-Origin`; `None` for a page of the same origin and for clients that are no browser.
    allow: Option<HeaderValue>,
    /// Whether cookies may come along: only where the origin was named.
    credentials: bool,
    /// Whether the response is another one for another origin.
    vary: bool,
}

/// Whether the page that a request comes from is among the allowed ones.
pub fn check(incoming: &Incoming, allowed: &[Origin]) -> Option<Cors> {
    let any = allowed.iter().any(|origin| origin.is_any());
    let vary = !any;
    let Some(origin) = incoming.headers.get(header::ORIGIN) else {
        return Some(Cors {
            allow: None,
            credentials: false,
            vary,
        });
    };
    let text = std::str::from_utf8(origin).ok();
    let named = text.is_some_and(|text| allowed.iter().any(|allowed| allowed.names(text)));
    if named {
        return Some(Cors {
            allow: HeaderValue::from_bytes(origin).ok(),
            credentials: true,
            vary: true,
        });
    }
    if any {
        return Some(Cors {
            allow: Some(HeaderValue::from_static("*")),
            credentials: false,
            vary,
        });
    }
    // The scheme is left out: behind a proxy that ends TLS the host cannot know it.
    let host = text
        .and_then(|text| text.split_once("://"))
        .map(|(_, host)| host);
    let own = host.is_some() && host == incoming.authority.as_deref();
    own.then_some(Cors {
        allow: None,
        credentials: false,
        vary,
    })
}

impl Cors {
    /// Lets any page read the response: for one that says nothing.
    pub fn for_anyone(request: &HeaderMap) -> Self {
        let allow = request.get(header::ORIGIN).cloned();
        Self {
            credentials: allow.is_some(),
            allow,
            vary: true,
        }
    }

    /// Adds the headers of a response.
    pub fn write(&self, headers: &mut HeaderMap) {
        if let Some(allow) = &self.allow {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allow.clone());
        }
        if self.credentials {
            headers.insert(
                header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
                HeaderValue::from_static("true"),
            );
        }
        if self.vary {
            headers.append(header::VARY, HeaderValue::from_static("origin"));
        }
    }

    /// The answer to a preflight: the page may send what it asks to send (Fetch standard, "CORS-preflight fetch").
    /// What it is then allowed to do, the handler of the request decides.
    pub fn preflight(&self, request: &HeaderMap) -> http::Response<Bytes> {
        let mut response = http::Response::new(Bytes::new());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        self.write(headers);
        for (asked, allowed) in [
            (
                header::ACCESS_CONTROL_REQUEST_METHOD,
                header::ACCESS_CONTROL_ALLOW_METHODS,
            ),
            (
                header::ACCESS_CONTROL_REQUEST_HEADERS,
                header::ACCESS_CONTROL_ALLOW_HEADERS,
            ),
        ] {
            if let Some(value) = request.get(&asked) {
                headers.insert(allowed, value.clone());
            }
            headers.append(header::VARY, HeaderValue::from(asked));
        }
        headers.insert(
            header::ACCESS_CONTROL_MAX_AGE,
            HeaderValue::from_static(PREFLIGHT_SECONDS),
        );
        response
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use bytes::Bytes;
    use http::Method;

    use super::*;
    use crate::guest::{headers::Headers, request::RequestId};

    fn request(origin: Option<&str>) -> Incoming {
        let mut headers = HeaderMap::new();
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        Incoming {
            id: RequestId::random(),
            method: Method::GET,
            path: "/".into(),
            query: None,
            headers: Headers::from(&headers),
            body: Bytes::new(),
            client: Ipv4Addr::LOCALHOST.into(),
            authority: Some("here.example:8080".into()),
            room: None,
        }
    }

    fn allowed(list: &[&str]) -> Vec<Origin> {
        list.iter().map(|origin| origin.parse().unwrap()).collect()
    }

    fn headers(origin: Option<&str>, list: &[&str]) -> Option<Vec<(String, String)>> {
        let mut headers = HeaderMap::new();
        check(&request(origin), &allowed(list))?.write(&mut headers);
        let pairs = headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().into()));
        Some(pairs.collect())
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.into(), value.into())
    }

    #[test]
    fn a_named_origin_may_send_credentials() {
        assert_eq!(
            headers(Some("https://a.example"), &["https://a.example"]).unwrap(),
            [
                pair("access-control-allow-origin", "https://a.example"),
                pair("access-control-allow-credentials", "true"),
                pair("vary", "origin"),
            ]
        );
    }

    #[test]
    fn any_origin_may_not() {
        assert_eq!(
            headers(Some("https://a.example"), &["*"]).unwrap(),
            [pair("access-control-allow-origin", "*")]
        );
        assert_eq!(
            headers(Some("*"), &["*"]).unwrap(),
            [pair("access-control-allow-origin", "*")]
        );
    }

    #[test]
    fn other_origins_are_refused() {
        for origin in [
            "https://b.example",
            "http://a.example",
            "https://a.example:8443",
            "null",
            "here.example:8080",
        ] {
            assert_eq!(
                headers(Some(origin), &["https://a.example"]),
                None,
                "{origin}"
            );
        }
    }

    #[test]
    fn pages_of_the_app_and_clients_that_are_no_browser_are_allowed() {
        for origin in [
            None,
            Some("http://here.example:8080"),
            Some("https://here.example:8080"),
        ] {
            assert_eq!(
                headers(origin, &[]).unwrap(),
                [pair("vary", "origin")],
                "{origin:?}"
            );
        }
    }
}
