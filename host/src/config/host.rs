//! Names of hosts, in the one form in which they can be compared.

use std::net::{Ipv4Addr, Ipv6Addr};

use url::Host;

/// A host, or `None` if the text is none. IPv6 stands in brackets, as in URLs.
pub(super) fn canonical(text: &str) -> Option<String> {
    if let Some(inside) = text.strip_prefix('[') {
        let address: Ipv6Addr = inside.strip_suffix(']')?.parse().ok()?;
        return Some(format!("[{address}]"));
    }
    let ascii = if text.is_ascii() {
        text.to_ascii_lowercase()
    } else {
        match Host::parse(text).ok()? {
            Host::Domain(domain) => domain,
            Host::Ipv4(_) | Host::Ipv6(_) => return None,
        }
    };
    let last = ascii.rsplit('.').next()?;
    // Resolvers take `127.1` and `0x7f000001` for addresses: only the usual form is one here.
    if last.starts_with(|c: char| c.is_ascii_digit()) && ascii.parse::<Ipv4Addr>().is_err() {
        return None;
    }
    let good = ascii.len() <= 253 && ascii.split('.').all(is_label);
    good.then_some(ascii)
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && !label.starts_with('-')
        && label
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// Splits `host:port`. The colons of an IPv6 address stand in brackets.
pub(super) fn split_port(text: &str) -> (&str, Option<&str>) {
    let after_brackets = text.rfind(']').map_or(0, |at| at + 1);
    match text[after_brackets..].rfind(':') {
        Some(colon) => {
            let colon = after_brackets + colon;
            (&text[..colon], Some(&text[colon + 1..]))
        }
        None => (text, None),
    }
}

/// A port other than 0, in plain digits.
pub(super) fn port(text: &str) -> Option<u16> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|port| *port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for (text, host) in [
            ("localhost", "localhost"),
            ("Redis.Example", "redis.example"),
            ("my_redis-1", "my_redis-1"),
            ("10.0.0.1", "10.0.0.1"),
            ("[::1]", "[::1]"),
            ("[0:0:0:0:0:0:0:1]", "[::1]"),
            ("BÜCHER.example", "xn--bcher-kva.example"),
        ] {
            assert_eq!(canonical(text).as_deref(), Some(host), "{text}");
        }
        for text in [
            "",
            "*",
            "*.example",
            "a..b",
            "a.",
            "-a",
            "a b",
            "::1",
            "[::1",
            "[]",
            "[x]",
            "127.1",
            "1.2.3.4.5",
            "0x7f000001",
            "999.1.1.1",
            "user@host",
            "a/b",
            "a%41",
            "１.2.3.4",
            &"a".repeat(64),
        ] {
            assert_eq!(canonical(text), None, "{text}");
        }
    }

    #[test]
    fn ports() {
        assert_eq!(split_port("a:1"), ("a", Some("1")));
        assert_eq!(split_port("[::1]:1"), ("[::1]", Some("1")));
        assert_eq!(split_port("[::1]"), ("[::1]", None));
        assert_eq!(split_port("a"), ("a", None));
        assert_eq!(port("6379"), Some(6379));
        for text in ["", "0", "65536", "+1", "-1", "x"] {
            assert_eq!(port(text), None, "{text}");
        }
    }
}
