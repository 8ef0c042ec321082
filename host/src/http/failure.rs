//! What a client is shown of a failure of the guest: a page where a person looks, else the text.

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use super::response::{Body, accepts, plain};
use crate::guest::request::LOGGED;

/// Nothing but its own style: what the guest has said stands in the page.
const POLICY: HeaderValue =
    HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

/// A failure, for the client that sent a request with these headers.
pub fn failure(text: &str, request: &HeaderMap) -> Response<Body> {
    if !accepts(request, "text/html") {
        return plain(StatusCode::INTERNAL_SERVER_ERROR, text);
    }
    let mut response = plain(StatusCode::INTERNAL_SERVER_ERROR, page(text).trim_end());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HTML);
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    response
}

/// The first line says what happened; what follows is the trap, its backtrace and what the guest printed.
fn page(text: &str) -> String {
    let (what, more) = text.split_once('\n').unwrap_or((text, ""));
    let more = match more.is_empty() {
        true => String::new(),
        false => format!("<pre>{}</pre>\n", escaped(more)),
    };
    let hint = hint(text).map_or_else(String::new, |hint| format!("<p>{hint}</p>\n"));
    let what = escaped(what);
    format!(
        "<!doctype html>\n<meta charset=\"utf-8\">\n<title>The app failed</title>\n\
         <style>body {{ font: 1rem/1.5 system-ui, sans-serif; margin: 3rem auto; max-width: 60rem; padding: 0 1rem }}\n\
         pre {{ background: #f4f4f5; overflow: auto; padding: 1rem }}</style>\n\
         <h1>The app failed</h1>\n<p>{what}</p>\n{more}{hint}"
    )
}

/// What may help whoever writes the guest. Nothing in production, where the text is for any client and names the log.
fn hint(text: &str) -> Option<&'static str> {
    if text.starts_with(LOGGED) {
        return None;
    }
    let hint = if text.contains("limit `") {
        "The limit is one of the app’s: <code>limits</code> in its part of <code>fanfare.toml</code>."
    } else if text.contains("wasm backtrace") && !text.contains(".rs:") {
        "A guest that is built with debug information, such as by <code>cargo build</code> without \
         <code>--release</code>, shows the lines of its source here."
    } else {
        "The log of the server has this too, and what else the guest has printed."
    };
    Some(hint)
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    const TRAP: &str = "the handler trapped\nat <script>alert(1)</script>";

    async fn shown(text: &str, accept: &'static str) -> (String, String) {
        let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]);
        let response = failure(text, &headers);
        assert_eq!(response.status(), 500);
        let media = response.headers()[header::CONTENT_TYPE]
            .to_str()
            .unwrap()
            .to_owned();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (media, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_person_sees_a_page_in_which_nothing_of_the_guest_is_markup() {
        let (media, page) = shown(TRAP, "text/html,application/xhtml+xml;q=0.9").await;
        assert_eq!(media, "text/html; charset=utf-8");
        assert!(page.contains("<p>the handler trapped</p>"), "{page}");
        assert!(
            page.contains("&lt;script&gt;") && !page.contains("<script>"),
            "{page}"
        );
    }

    #[tokio::test]
    async fn the_log_is_named_once() {
        let (_, page) = shown(TRAP, "text/html").await;
        assert!(
            page.contains("<p>The log of the server has this too"),
            "{page}"
        );
        // As in production.
        let text = format!("{LOGGED} 0123456789abcdef.");
        let (_, page) = shown(&text, "text/html").await;
        assert!(page.ends_with(&format!("<p>{text}</p>\n")), "{page}");
    }

    #[tokio::test]
    async fn a_program_sees_the_text() {
        let (media, text) = shown(TRAP, "*/*").await;
        assert_eq!(media, "text/plain; charset=utf-8");
        assert!(
            text.starts_with("the handler trapped\nat <script>"),
            "{text}"
        );
    }
}
