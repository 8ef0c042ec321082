//! Routes: where apps are mounted.

use thiserror::Error;

/// The first segments of the paths that the node answers itself, before any app.
const RESERVED: [&str; 2] = ["healthz", "readyz"];

/// Why a route was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum RouteError {
    #[error("a route starts with `/`, such as \"/chat\"")]
    Start,
    #[error("a route does not end with `/`, unless it is \"/\" itself")]
    End,
    #[error("a route has no empty part: write one `/` where there are two")]
    Empty,
    #[error("a route has no part `.` or `..`; write the path that is meant")]
    Dots,
    #[error(
        "a route is made of ASCII letters, digits and any of `-._~!$&'()*+,;=:@` between its `/`; it has no \
         query, no `%` escape and no pattern"
    )]
    Character,
    #[error("`/healthz` and `/readyz` are answered by the node itself; choose another route")]
    Reserved,
}

pub(super) fn check(route: &str) -> Result<(), RouteError> {
    let Some(rest) = route.strip_prefix('/') else {
        return Err(RouteError::Start);
    };
    if rest.is_empty() {
        return Ok(());
    }
    if rest.ends_with('/') {
        return Err(RouteError::End);
    }
    for segment in rest.split('/') {
        match segment {
            "" => return Err(RouteError::Empty),
            "." | ".." => return Err(RouteError::Dots),
            _ if !segment.bytes().all(is_plain) => return Err(RouteError::Character),
            _ => {}
        }
    }
    if RESERVED
        .iter()
        .any(|reserved| rest.split('/').next() == Some(reserved))
    {
        return Err(RouteError::Reserved);
    }
    Ok(())
}

/// A `pchar` of RFC 3986 that needs no escape.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes() {
        for route in [
            "/",
            "/chat",
            "/v1/chat.rooms/~me",
            "/a:b@c",
            "/health",
            "/x/healthz",
            "/...",
        ] {
            assert_eq!(check(route), Ok(()), "{route}");
        }
        for (route, error) in [
            ("", RouteError::Start),
            ("chat", RouteError::Start),
            ("/chat/", RouteError::End),
            ("//", RouteError::End),
            ("/a//b", RouteError::Empty),
            ("//a", RouteError::Empty),
            ("/a/../b", RouteError::Dots),
            ("/.", RouteError::Dots),
            ("/a?b", RouteError::Character),
            ("/a#b", RouteError::Character),
            ("/a%20b", RouteError::Character),
            ("/a b", RouteError::Character),
            ("/é", RouteError::Character),
            ("/{id}", RouteError::Character),
            ("/healthz", RouteError::Reserved),
            ("/readyz/x", RouteError::Reserved),
        ] {
            assert_eq!(check(route), Err(error), "{route}");
        }
    }
}
