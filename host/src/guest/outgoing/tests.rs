//! What may be sent, and in which form.

use http_body_util::{BodyExt, Empty};

use super::*;

fn outgoing(granted: &[&str]) -> Arc<Outgoing> {
    let capabilities = config::Capabilities {
        http: granted
            .iter()
            .map(|origin| origin.parse().unwrap())
            .collect(),
        ..config::Capabilities::default()
    };
    let limits = config::Http {
        requests: 1,
        ..config::Http::default()
    };
    Arc::new(Outgoing::new(&capabilities, &limits).unwrap())
}

fn request(method: &str, uri: &str) -> Request<WasiBody> {
    let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
    let request = Request::builder().method(method).uri(uri);
    request.body(body).unwrap()
}

async fn refusal(outgoing: &Arc<Outgoing>, request: Request<WasiBody>) -> Error {
    outgoing
        .send(&Scope::of_test(), request, None)
        .await
        .unwrap_err()
}

#[tokio::test]
async fn what_was_not_granted_is_denied_before_any_name_is_looked_up() {
    let outgoing = outgoing(&["https://api.example.invalid"]);
    for uri in [
        "https://other.example.invalid/",
        "http://api.example.invalid/",
        "https://api.example.invalid:8443/",
        "https://api.example.invalid.evil.invalid/",
        "https://evil.invalid/https://api.example.invalid",
    ] {
        let error = refusal(&outgoing, request("GET", uri)).await;
        assert!(matches!(error, Error::HttpRequestDenied), "{uri}: {error}");
    }
    let denied = outgoing.endings()[Ending::Denied as usize];
    assert_eq!(denied, (Ending::Denied, 5));
    assert_eq!(outgoing.in_flight(), 0);
}

#[tokio::test]
async fn what_names_no_origin_is_invalid() {
    let outgoing = outgoing(&["http://127.0.0.1"]);
    for uri in [
        "/nowhere",
        "http://me@127.0.0.1/",
        "http://127.1/",
        "http://0x7f000001/",
        "http://127.0.0.1:0/",
        "http://a..b/",
    ] {
        let error = refusal(&outgoing, request("GET", uri)).await;
        assert!(
            matches!(error, Error::HttpRequestUriInvalid),
            "{uri}: {error}"
        );
    }
}

#[tokio::test]
async fn an_origin_is_compared_in_one_form() {
    let outgoing = outgoing(&["https://api.example.invalid"]);
    let granted = "HTTPS://API.example.invalid:443/path";
    let upstream = named(request("GET", granted).uri()).unwrap();
    let scope = Scope::of_test();
    let exchange = outgoing.admit(&scope, &upstream, request("GET", granted), None);
    let exchange = exchange.map_err(|failure| failure.to_string()).unwrap();
    assert_eq!(outgoing.in_flight(), 1);

    let failure = outgoing.admit(&scope, &upstream, request("GET", granted), None);
    let failure = failure.err().unwrap();
    assert!(failure.to_string().contains("`http.requests`"), "{failure}");
    assert!(matches!(failure.code(), Error::ConnectionLimitReached));
    drop(exchange);
    assert_eq!(outgoing.in_flight(), 0);
}

#[tokio::test]
async fn nobody_opens_a_tunnel() {
    let outgoing = outgoing(&["http://proxy.example.invalid"]);
    let error = refusal(
        &outgoing,
        request("CONNECT", "http://proxy.example.invalid/"),
    )
    .await;
    assert!(matches!(error, Error::HttpRequestMethodInvalid), "{error}");
}

#[test]
fn a_denial_names_the_origin_and_the_grant() {
    let failure = Failure::NotGranted("https://api.example.org".parse().unwrap());
    let said = failure.to_string();
    for part in [
        "not granted https://api.example.org",
        "`capabilities.http = [\"https://api.example.org\"]`",
        "`--allow-http https://api.example.org`",
    ] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
}
