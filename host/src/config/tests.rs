//! Whole files: what they mean, what is said of their mistakes, those of [form] among them, and that [nothing
//! panics](panics).

mod form;
mod panics;

use std::time::Duration;

use super::*;

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/");
const EXAMPLE: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../docs/fanfare.example.toml"
));

/// Compares a file of `docs` with what the code generates; `FANFARE_BLESS=1` writes it.
pub(super) fn same_as_in_docs(name: &str, generated: &str) {
    let path = format!("{DOCS}{name}");
    if std::env::var_os("FANFARE_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(&path, generated).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == generated,
        "docs/{name} is out of date; run `FANFARE_BLESS=1 cargo test -p fanfare config` to write it"
    );
}

fn env(name: &str) -> Option<String> {
    match name {
        "REDIS_URL" => Some("rediss://:hunter2@redis.internal:6379".to_owned()),
        "CHAT_TOKEN" | "SECRET" => Some("hunter2".to_owned()),
        "ADMIN_TOKEN" => Some("hunter2-hunter2-hunter2".to_owned()),
        "INJECT" => Some("\"\n[node]\ndevelopment = true\n#".to_owned()),
        _ => None,
    }
}

pub(super) fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("etc/fanfare.toml"), &env)
}

/// The mistakes of a file, a line each.
fn mistakes(text: &str) -> Vec<String> {
    let Err(ConfigError::Invalid { mistakes }) = parse(text) else {
        panic!("no mistakes found in {text}");
    };
    mistakes
        .iter()
        .map(|mistake| mistake.to_string())
        .map(|line| line.strip_prefix("etc/fanfare.toml:").unwrap().to_owned())
        .collect()
}

/// The only mistake of a file.
pub(super) fn mistake(text: &str) -> String {
    let mut all = mistakes(text);
    assert_eq!(all.len(), 1, "{all:#?}");
    all.remove(0)
}

#[track_caller]
pub(super) fn says(text: &str, expected: &str) {
    assert_eq!(mistake(text), expected);
}

#[test]
fn the_example() {
    let config = parse(EXAMPLE).unwrap();
    assert_eq!(config.listen.address.port(), 8443);
    let tls = config.listen.tls.as_ref().unwrap();
    assert_eq!(tls.key, Path::new("etc/tls/key.pem"));
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.log.level, "info");
    assert_eq!(config.node.data, Some("/var/lib/fanfare".into()));
    assert!(config.admin.as_ref().unwrap().token.is_some());
    let chat = &config.apps["chat"];
    assert_eq!(chat.component, Path::new("etc/apps/chat.wasm"));
    assert_eq!(chat.streams.ping_interval, Duration::from_secs(20));
    assert_eq!(chat.history.bytes, 1 << 20);
    assert_eq!(chat.limits, Limits::default());
    assert_eq!(chat.variables["greeting"].value(), "Welcome");
    assert!(chat.variables["api-token"].is_secret());
    assert_eq!(chat.variables["api-token"].value(), "hunter2");
    let prices = &config.apps["prices"];
    assert!(prices.streams.allowed_origins[0].is_any());
    assert_eq!(prices.limits.connections, 50_000);
    let granted = &prices.capabilities.redis[0];
    assert_eq!((granted.host(), granted.port()), ("redis.internal", 6379));
    assert!(
        matches!(&config.brokers["main"], Broker::Redis { url, .. } if url.expose().contains("hunter2"))
    );
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn an_empty_file_is_the_defaults() {
    assert_eq!(parse("").unwrap(), Config::default());
    assert_eq!(Config::default().validate(), Ok(()));
}

#[test]
fn for_a_guest_alone() {
    let config = Config::for_guest(PathBuf::from("target/My_Guest.wasm"));
    assert!(config.node.development);
    assert!(config.listen.address.ip().is_loopback());
    let app = &config.apps["my-guest"];
    assert_eq!(app.component, Path::new("target/My_Guest.wasm"));
    assert_eq!(app.route, "/");
    assert_eq!(config.validate(), Ok(()));
    assert_eq!(Config::for_guest(PathBuf::new()).validate(), Ok(()));
}

#[test]
fn files_are_read_from_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fanfare.toml");
    std::fs::write(&path, "[apps.a]\ncomponent = \"a.wasm\"").unwrap();
    std::fs::write(folder.path().join("a.wasm"), "").unwrap();
    let config = Config::load(&path, None).unwrap();
    assert_eq!(config.apps["a"].component, folder.path().join("a.wasm"));
    std::fs::write(&path, b"[node]\n# \xff").unwrap();
    let error = Config::load(&path, None).unwrap_err().to_string();
    assert!(error.contains("fanfare.toml:2:3: not UTF-8"), "{error}");
    folder.close().unwrap();
    let error = Config::load(&path, None).unwrap_err().to_string();
    assert!(error.contains("fanfare.toml: cannot be read: "), "{error}");
}

#[test]
fn unknown_keys() {
    says(
        "[apps.chat]\ncomponent = \"a\"\nruote = \"/\"",
        "3:1: apps.chat.ruote: not a known key; did you mean `route`? known keys: `component`, `route`, \
         `capabilities`, `variables`, `streams`, `history`, `limits`, `instances`, `http`",
    );
    says(
        "[nodes]",
        "1:2: nodes: not a known key; did you mean `node`? known keys: `node`, `listen`, `admin`, `log`, `redis`, \
         `brokers`, `apps`",
    );
    says(
        "apps = { a = { component = \"a\", variables = { x = { value = \"\", hidden = true } } } }",
        "1:65: apps.a.variables.x.hidden: not a known key; known keys: `value`, `secret`",
    );
    says(
        "[log]\nformat = \"jsn\"",
        "2:10: log.format: not a known value; did you mean `json`? known values: `text`, `json` (it is \"jsn\")",
    );
    says(
        "[brokers.main]\ntype = \"rabbit\"",
        "2:8: brokers.main.type: not a known value; known values: `memory`, `redis`, `nats`, `postgres`, `kafka` (it is \
         \"rabbit\")",
    );
}

#[test]
fn requests_of_guests() {
    let config = parse(
        "[apps.ask]\ncomponent = \"ask.wasm\"\n[apps.ask.capabilities]\n\
         http = [\"HTTPS://api.example.org:443\", \"http://127.0.0.1:8080\"]\n\
         [apps.ask.http]\nca-file = \"ca.pem\"\nrequests = 7\nconnect-timeout = \"2s\"\nresponse-bytes = \"1MiB\"",
    );
    let ask = &config.unwrap().apps["ask"];
    let granted: Vec<_> = ask
        .capabilities
        .http
        .iter()
        .map(Upstream::to_string)
        .collect();
    assert_eq!(
        granted,
        ["https://api.example.org", "http://127.0.0.1:8080"]
    );
    let expected = Http {
        ca_file: Some("etc/ca.pem".into()),
        requests: 7,
        connect_timeout: Duration::from_secs(2),
        response_bytes: 1 << 20,
        ..Http::default()
    };
    assert_eq!(ask.http, expected);

    says(
        "[apps.ask]\ncomponent = \"a\"\n[apps.ask.capabilities]\nhttp = [\"https://*.example.org\"]",
        "4:9: apps.ask.capabilities.http[0]: name each origin, such as \"https://api.example.org\"; there are no \
         patterns, and no \"*\" for all (it is \"https://*.example.org\")",
    );
    let all = mistakes(
        "[apps.ask]\ncomponent = \"a\"\n[apps.ask.http]\nrequests = 0\nconnect-timeout = \"0\"\n\
         first-byte-timeout = \"0\"\nbetween-bytes-timeout = \"0\"",
    );
    assert_eq!(all.len(), 4, "{all:#?}");
    assert!(
        all[0].contains("apps.ask.http.requests: must be from 1"),
        "{all:#?}"
    );
}

#[test]
fn missing_keys() {
    says(
        "[node]\n[apps.chat]\nroute = \"/\"",
        "2:1: apps.chat: the key `component` is missing; add `component = …` here",
    );
    says(
        "[listen.tls]\nkey = \"key.pem\"",
        "1:1: listen.tls: the key `certificate` is missing; add `certificate = …` here",
    );
    says(
        "[brokers.main]\ntype = \"redis\"\nsync-channel = \"x\"",
        "1:1: brokers.main: the key `url` is missing; add `url = …` here",
    );
    says(
        "[brokers.main]\ntype = \"memory\"\nurl = \"redis://:hunter2@x\"",
        "1:1: brokers.main: `url` is no key of a broker with `type = \"memory\"`; drop it, or change the type",
    );
}

#[test]
fn wrong_kinds_of_values() {
    for (text, expected) in [
        ("node = 1", "1:8: node: expected a table, found a number"),
        (
            "[node]\ndevelopment = \"yes\"",
            "2:15: node.development: expected a boolean, found text",
        ),
        (
            "[node]\ndrain-timeout = 10",
            "2:17: node.drain-timeout: expected a duration as text, such as \"15s\" or \"250ms\", found a number",
        ),
        (
            "[listen]\nmax-connections = -1",
            "2:19: listen.max-connections: expected a whole number from 0, found one below 0 (it is -1)",
        ),
        (
            "[listen]\nmax-connections = 1.5",
            "2:19: listen.max-connections: expected a whole number from 0, found a number with a fraction",
        ),
        (
            "[listen]\nmax-connections = 99999999999999999999",
            "2:19: listen.max-connections: the number is too large",
        ),
        (
            "[listen]\naddress = 2020-01-01",
            "2:11: listen.address: expected an IP address and a port as text, such as \"127.0.0.1:8080\", found a date",
        ),
        (
            "apps.a.component = \"\"",
            "1:20: apps.a.component: a path must not be empty (it is \"\")",
        ),
        (
            "apps.a = { component = \"a\", variables = { n = 3 } }",
            "1:47: apps.a.variables.n: expected text, or a table such as { value = \"…\", secret = true }, found a number",
        ),
        (
            "log.format = { a = 1 }",
            "1:14: log.format: expected text, found a table",
        ),
    ] {
        says(text, expected);
    }
}

#[test]
fn values_that_do_not_parse_are_quoted() {
    let app = "[apps.a]\ncomponent = \"a\"\n";
    for (text, expected) in [
        (
            "[apps.a.streams]\nallowed-origins = [\"*\", \"https://x/\"]",
            "4:25: apps.a.streams.allowed-origins[1]: an origin ends with the host or the port: it has no path, \
             not even `/`, no query and no user (it is \"https://x/\")",
        ),
        (
            "[apps.a.capabilities]\nredis = [\"*:6379\"]",
            "4:10: apps.a.capabilities.redis[0]: an address is one host and a port, such as \"redis.example:6379\", \
             \"10.0.0.7\" or \"[::1]:6379\"; there are no patterns (it is \"*:6379\")",
        ),
        (
            "[apps.a.history]\nage = \"2 minutes\"",
            "4:7: apps.a.history.age: a duration is a whole number with a unit, `ms`, `s`, `m` or `h`, such as \
             \"15s\"; \"0\" needs none (it is \"2 minutes\")",
        ),
    ] {
        says(&format!("{app}{text}"), expected);
    }
}

#[test]
fn bounds() {
    let app = "[apps.a]\ncomponent = \"a\"\n";
    for (text, expected) in [
        (
            "[listen]\nhead-bytes = \"4KiB\"",
            "listen.head-bytes: must be from 8KiB to 1MiB (it is \"4KiB\")",
        ),
        (
            "[listen]\nhead-bytes = \"2MiB\"",
            "listen.head-bytes: must be from 8KiB to 1MiB (it is \"2MiB\")",
        ),
        (
            "[listen]\nmax-connections = 0",
            "listen.max-connections: must be from 1 to 1000000000 (it is 0)",
        ),
        (
            "[listen]\nhead-timeout = \"0\"",
            "listen.head-timeout: must be longer than 0, or nothing would ever be in time (it is \"0\")",
        ),
        (
            "[apps.a.streams]\nping-interval = \"99ms\"",
            "apps.a.streams.ping-interval: must be 0 (never) or at least 100ms (it is \"99ms\")",
        ),
        (
            "[apps.a.history]\nage = \"0\"",
            "apps.a.history.age: must not be 0; to keep no history, write `events = 0` (it is \"0\")",
        ),
        (
            "[apps.a.limits]\ncalls = 0",
            "apps.a.limits.calls: must be from 1 to 1000000000 (it is 0)",
        ),
        (
            "[apps.a.limits]\ncalls = 9223372036854775807",
            "apps.a.limits.calls: must be from 1 to 1000000000 (it is 9223372036854775807)",
        ),
        (
            "[apps.a.limits]\nmemory = 65536",
            "apps.a.limits.memory: must be from 1MiB to 1024GiB (it is 65536)",
        ),
        (
            "[log]\nlevel = \"fanfare=loud\"",
            "log.level: must be `error`, `warn`, `info`, `debug`, `trace` or a filter such as \
             \"info,fanfare::hub=debug\" (it is \"fanfare=loud\")",
        ),
    ] {
        let said = mistake(&format!("{app}{text}"));
        assert!(said.starts_with("4:"), "{said}");
        assert!(said.ends_with(&format!(": {expected}")), "{said}");
    }
    for fine in [
        "streams.ping-interval = \"0\"",
        "history.events = 0",
        "limits.request-body = 0",
    ] {
        parse(&format!("{app}{fine}")).unwrap();
    }
}

#[test]
fn routes_are_taken_once() {
    let text =
        "[apps.a]\ncomponent = \"a\"\nroute = \"/x\"\n[apps.b]\nroute = \"/x\"\ncomponent = \"b\"";
    says(
        text,
        "5:9: apps.b.route: the app `a` has this route; give each app a route of its own (it is \"/x\"); see \
         apps.a.route at etc/fanfare.toml:3:9",
    );
    let text = "apps.a.component = \"a\"\n[apps.b]\ncomponent = \"b\"";
    assert!(mistake(text).starts_with("2:1: apps.b.route: the app `a` has this route"));
}

#[test]
fn names_routes_and_grants_are_checked_all_at_once() {
    let text = r#"[apps.Chat]
component = "a"
route = "/healthz"
capabilities.brokers = ["man"]
[brokers.main]
type = "redis"
url = "http://:hunter2@host"
sync-channel = ""
"#;
    let all = mistakes(text);
    assert!(
        all[0].starts_with("1:1: apps.Chat: a name is"),
        "{}",
        all[0]
    );
    assert!(
        all[1].starts_with("3:9: apps.Chat.route: `/healthz` and"),
        "{}",
        all[1]
    );
    assert_eq!(
        all[2],
        "4:25: apps.Chat.capabilities.brokers[0]: no broker has this label; add a table [brokers.<label>] for it; \
         did you mean `main`? known brokers: `main` (it is \"man\")"
    );
    assert!(
        all[3].starts_with("7:7: brokers.main.url:") && all[3].contains("must start with redis://"),
        "{}",
        all[3]
    );
    assert!(
        all[4].starts_with("8:16: brokers.main.sync-channel: must be a name"),
        "{}",
        all[4]
    );
    assert_eq!(all.len(), 5);
}

#[test]
fn the_environment_is_text_and_never_shown() {
    let config = parse(
        "[log]\nlevel = \"info\"\n[apps.a]\ncomponent = \"a\"\n[apps.a.variables]\nx = \"${INJECT}\"",
    );
    let config = config.unwrap();
    assert!(!config.node.development);
    assert!(config.apps["a"].variables["x"].value().contains("[node]"));

    let app = "[apps.a]\ncomponent = \"a\"\n";
    for text in [
        "node.drain-timeout = \"${SECRET}\"".to_owned(),
        "listen.address = \"${SECRET}\"".to_owned(),
        "listen.max-connections = \"${SECRET}\"".to_owned(),
        "log.format = \"${SECRET}\"".to_owned(),
        "log.level = \"x=${SECRET}\"".to_owned(),
        "brokers.x.type = \"${SECRET}\"".to_owned(),
        "brokers.x = { type = \"redis\", url = \"${SECRET}\", sync-channel = \"x\" }".to_owned(),
        "brokers.x = { type = \"redis\", url = \"${SECRET}://h\", sync-channel = \"x\" }"
            .to_owned(),
        format!("{app}route = \"${{SECRET}}\""),
        format!("{app}streams.allowed-origins = [\"${{SECRET}}\"]"),
        format!("{app}capabilities.redis = [\"${{SECRET}}@\"]"),
        format!("{app}capabilities.brokers = [\"${{SECRET}}\"]"),
        format!("{app}limits.memory = \"${{SECRET}}\""),
        format!("{app}variables.x = [\"${{SECRET}}\"]"),
        format!("{app}variables.x = {{ value = \"${{SECRET}}\", secret = \"${{SECRET}}\" }}"),
    ] {
        let said = mistake(&text);
        assert!(!said.contains("hunter2"), "{said}");
    }
    says(
        "node.drain-timeout = \"${NOT_SET}\"",
        "1:22: node.drain-timeout: the environment variable `NOT_SET` is not set; set it, or give a default: \
         `${NOT_SET:-default}`",
    );
}

#[test]
fn secrets_in_the_file_are_not_shown() {
    for text in [
        "brokers.x = { type = \"redis\", url = \"redis:hunter2\", sync-channel = \"x\" }",
        "brokers.x = { type = \"memory\", url = \"hunter2\" }",
        "brokers.x = { type = \"redis\", url = \"hunter2\" }",
        "apps.a = { component = \"a\", variables = { x = { value = \"hunter2\" \"\" } } }",
        "apps.a = { component = \"a\", capabilities = { redis = [\"redis://:hunter2@host\"] } }",
        "apps.a = { component = \"a\", variables = { x = { value = \"hunter2\", secret = 1 } } }",
        "apps.a = { component = \"a\", variables = { x = { value = \"hunter2\", secert = true } } }",
    ] {
        let said = mistake(text);
        assert!(!said.contains("hunter2"), "{said}");
    }
}
