//! Texts that name something: what is taken has one form, which is read again, and nothing in it that could be taken for
//! something else where it is written.

use fanfare::{
    config::{Address, Origin, Upstream, is_token},
    guest::version::VersionId,
    hub::channel::ChannelName,
    redis_pool::RedisUrl,
};

use crate::driver::Target;

const TEXTS: Target = Target {
    name: "texts",
    runs: 2000,
    words: &[
        "http://",
        "https://",
        "redis://",
        "rediss://",
        "localhost",
        "127.0.0.1",
        "0x7f.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[fe80::1%25eth0]",
        "user:secret@",
        "%40",
        "%0a",
        ":443",
        ":65536",
        "xn--",
        "ü",
        "İ",
        "。",
        "/0",
        "#",
        "?",
        "*",
        "null",
        "\\",
    ],
};

#[test]
fn what_is_taken_has_one_form() {
    TEXTS.fuzz(|input| {
        let text = &*String::from_utf8_lossy(input);
        format!(
            "{} {} {} {} {} {} {}",
            origin(text),
            upstream(text),
            url(text),
            address(text),
            channel(text),
            version(text),
            is_token(text)
        )
    });
}

/// Whether it stands in a header, a log and a message as one word.
fn assert_plain(text: &str) {
    let is_plain = |c: char| c.is_ascii_graphic();
    assert!(text.chars().all(is_plain), "{text:?}");
}

fn origin(text: &str) -> bool {
    let Ok(origin) = text.parse::<Origin>() else {
        return false;
    };
    assert_plain(origin.as_str());
    assert_eq!(origin.to_string().parse(), Ok(origin));
    true
}

fn upstream(text: &str) -> bool {
    let uri = text.parse::<::http::Uri>().ok();
    let named = uri
        .as_ref()
        .and_then(|uri| Some((uri.scheme_str()?, uri.authority()?)));
    if let Some((scheme, authority)) = named
        && let Ok(upstream) = format!("{scheme}://{authority}").parse::<Upstream>()
    {
        // What is granted and what is connected to must be what the request names.
        let host = authority.host();
        assert!(
            host.starts_with('[') || host.eq_ignore_ascii_case(upstream.host()),
            "{host} is taken for {upstream}"
        );
        assert_eq!(
            authority.port_u16().unwrap_or(upstream.port()),
            upstream.port()
        );
    }
    let Ok(upstream) = text.parse::<Upstream>() else {
        return false;
    };
    assert_plain(&upstream.to_string());
    let authority = upstream.authority().parse::<::http::uri::Authority>();
    let authority = authority.expect("it is the authority of a request");
    assert_eq!(authority.as_str(), upstream.authority());
    let host = authority.host().trim_matches(['[', ']']);
    assert_eq!(host, upstream.host());
    assert!(upstream.port() > 0);
    assert_eq!(upstream.to_string().parse(), Ok(upstream));
    true
}

fn url(text: &str) -> bool {
    const SECRET: &str = "hunter2";
    let given = format!("redis://user:{text}{SECRET}@{text}");
    for given in [text, &given] {
        match RedisUrl::parse(given) {
            Ok(url) => {
                let shown = format!("{url} {url:?} {} {}", url.key(), url.address());
                assert!(!shown.contains(char::is_control), "{shown:?}");
                let is_shown = shown.contains(SECRET) && !text.contains(SECRET);
                assert!(!is_shown, "{shown}");
                assert_plain(&url.address());
                let address = url.address().parse::<Address>();
                let address = address.expect("what can be connected to can be granted");
                assert_eq!(address.to_string(), url.address());
            }
            Err(error) => {
                let error = error.to_string();
                assert!(!error.contains(SECRET), "{error}");
                assert!(error.contains("Redis URL"), "{error}");
            }
        }
    }
    RedisUrl::parse(text).is_ok()
}

fn address(text: &str) -> bool {
    let Ok(address) = text.parse::<Address>() else {
        return false;
    };
    assert_plain(&address.to_string());
    assert_eq!(address.to_string().parse(), Ok(address));
    true
}

fn channel(text: &str) -> bool {
    match ChannelName::new(text) {
        Ok(name) => {
            assert_eq!(name.as_str(), text);
            assert!(!text.contains(char::is_control) && (1..=255).contains(&text.len()));
            true
        }
        Err(error) => {
            assert!(error.to_string().contains("channel name"), "{error}");
            false
        }
    }
}

fn version(text: &str) -> bool {
    let known = VersionId::of(text.as_bytes());
    if let Ok(found) = VersionId::find(text, [known]) {
        assert!(known.to_string().starts_with(&text.to_ascii_lowercase()));
        assert_eq!(found, known);
    }
    text.parse::<VersionId>()
        .inspect(|version| assert_eq!(version.to_string(), text))
        .is_ok()
}
