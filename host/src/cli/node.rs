//! The admin listener of a running node, as the commands ask it.

use std::{
    env::{self, VarError},
    fmt, fs,
    net::IpAddr,
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use clap::Args;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::{
    net::{TcpStream, ToSocketAddrs},
    runtime,
    time::timeout,
};
use url::Url;

use super::lines;
use crate::{
    config::{ADMIN_TOKEN, AdminError, is_token},
    http::{admin, health},
};

/// How long a node may take to accept a socket.
const CONNECT: Duration = Duration::from_secs(5);
/// How long it may take to show that it is one.
const SHOW: Duration = Duration::from_secs(5);
/// How long it may take to say what there is.
const ANSWER: Duration = Duration::from_secs(10);
/// How long it may take to do something: an upload, a compile and a start.
const WORK: Duration = Duration::from_secs(600);
/// The largest answer.
const ANSWER_BYTES: usize = 4 << 20;

/// Which node, and what lets in there.
#[derive(Debug, Args)]
pub struct NodeArgs {
    /// The node's admin listener
    #[arg(
        long,
        value_name = "URL",
        env = "FANFARE_NODE",
        default_value = "http://127.0.0.1:9090"
    )]
    node: String,
    /// A file with the node's token, instead of the variable FANFARE_ADMIN_TOKEN
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// A running node.
pub struct NodeClient {
    /// `127.0.0.1:9090`, as the socket is opened and as `Host` says.
    authority: String,
    token: Option<Token>,
    runtime: runtime::Runtime,
}

/// What lets in.
struct Token {
    /// As it is sent.
    value: HeaderValue,
    /// Where it was given, for messages.
    source: String,
}

impl Token {
    fn new(token: &str, source: String) -> Result<Self> {
        // Not shown: it may be a token with something beside it.
        if !is_token(token) {
            bail!("what {source} holds is no token: {}", AdminError::Token);
        }
        let mut value = HeaderValue::from_str(&format!("Bearer {token}"))?;
        value.set_sensitive(true);
        Ok(Self { value, source })
    }
}

/// An app, as the node says.
#[derive(Debug, Deserialize)]
pub struct AppState {
    pub name: String,
    pub route: String,
    pub phase: String,
    pub reason: Option<String>,
    pub version: String,
    pub since: String,
    pub calls: usize,
    pub connections: usize,
}

/// What came of a deploy or a rollback.
#[derive(Debug, Deserialize)]
pub struct Deployed {
    pub app: String,
    pub version: String,
    pub previous: String,
    pub warning: Option<String>,
}

/// The answer of a node that did not do what it was asked.
#[derive(Debug)]
pub struct Refusal {
    /// In its words.
    reason: String,
    /// What to do about it here, of which it knows nothing.
    hint: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&lines(&self.reason))?;
        match &self.hint {
            Some(hint) => write!(f, " {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Refusal {}

impl NodeArgs {
    /// A client for this node.
    pub fn client(&self) -> Result<NodeClient> {
        let authority = authority(&self.node).with_context(|| format!("--node {}", self.node))?;
        let token = match &self.token_file {
            Some(file) => {
                let text = fs::read_to_string(file);
                let text = text.with_context(|| format!("--token-file {}", file.display()))?;
                let source = format!("the file {} (`--token-file`)", file.display());
                Some(Token::new(text.trim(), source)?)
            }
            None => match env::var(ADMIN_TOKEN) {
                Ok(token) if !token.is_empty() => {
                    Some(Token::new(&token, format!("the variable {ADMIN_TOKEN}"))?)
                }
                Err(VarError::NotUnicode(_)) => {
                    bail!(
                        "what the variable {ADMIN_TOKEN} holds is no token: {}",
                        AdminError::Token
                    )
                }
                _ => None,
            },
        };
        if token.is_some() && !is_this_machine(&authority) {
            eprintln!(
                "warning: the node's token would go to http://{authority} in clear, for whoever listens on the way; go \
                 through a tunnel, such as `ssh -L 9090:127.0.0.1:9090 NODE`"
            );
        }
        Ok(NodeClient {
            authority,
            token,
            runtime: runtime::Builder::new_current_thread()
                .enable_all()
                .build()?,
        })
    }
}

/// Host and port of an address of a node.
fn authority(text: &str) -> Result<String> {
    let url = Url::parse(text).context("is no address such as http://127.0.0.1:9090")?;
    let is_bare =
        matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
    match (url.scheme(), url.host_str()) {
        ("https", _) => bail!(
            "an admin listener speaks plain HTTP; reach one elsewhere through a tunnel, such as \
             `ssh -L 9090:127.0.0.1:9090 NODE`"
        ),
        ("http", Some(_)) if !url.username().is_empty() || url.password().is_some() => bail!(
            "the token does not belong into the address; give it in the variable {ADMIN_TOKEN}, or with `--token-file`"
        ),
        ("http", Some(host)) if is_bare => Ok(format!(
            "{host}:{}",
            url.port_or_known_default().unwrap_or(80)
        )),
        _ => Err(anyhow!("is no address such as http://127.0.0.1:9090")),
    }
}

/// Whether what is sent to this host and port stays on this machine.
fn is_this_machine(authority: &str) -> bool {
    let host = authority
        .rsplit_once(':')
        .map_or(authority, |(host, _)| host);
    let address = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>();
    address.map_or(host == "localhost", |address| {
        address.to_canonical().is_loopback()
    })
}

impl NodeClient {
    /// The apps of the node.
    pub fn apps(&self) -> Result<Vec<AppState>> {
        #[derive(Deserialize)]
        struct Apps {
            apps: Vec<AppState>,
        }
        let apps: Apps = self.ask(Method::GET, "/apps", None, Bytes::new(), ANSWER)?;
        Ok(apps.apps)
    }

    /// The app of this name.
    pub fn app(&self, name: &str) -> Result<AppState> {
        let mut apps = self.apps()?;
        let Some(place) = apps.iter().position(|app| app.name == name) else {
            let names: Vec<_> = apps.iter().map(|app| app.name.as_str()).collect();
            let (place, names) = (self.place(), names.join(", "));
            bail!("there is no app {name:?} on {place}; there is {names}");
        };
        Ok(apps.swap_remove(place))
    }

    /// What is at a path.
    pub fn get<T: for<'de> Deserialize<'de>>(&self, path: &str) -> Result<T> {
        self.ask(Method::GET, path, None, Bytes::new(), ANSWER)
    }

    /// Has the node work.
    pub fn work(
        &self,
        method: Method,
        path: &str,
        content_type: &'static str,
        body: Bytes,
    ) -> Result<Deployed> {
        self.ask(method, path, Some(content_type), body, WORK)
    }

    /// Where the node is, for messages.
    pub fn place(&self) -> String {
        format!("http://{}", self.authority)
    }

    fn ask<T: for<'de> Deserialize<'de>>(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&'static str>,
        body: Bytes,
        within: Duration,
    ) -> Result<T> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.authority);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, &token.value);
        }
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        let request = request
            .body(Full::new(body))
            .context("a name that cannot be asked for")?;
        let asked = self.runtime.block_on(async {
            let sender = self.reach().await?;
            let late = || {
                format!(
                    "the node at {} has not answered within {within:?}",
                    self.place()
                )
            };
            timeout(within, exchange(sender, request))
                .await
                .with_context(late)?
        });
        let (status, is_admin, body) = asked?;
        if !is_admin {
            bail!(
                "what answers at {} is no admin listener of a node; {ELSEWHERE}",
                self.place()
            );
        }
        if status != StatusCode::OK {
            let reason = String::from_utf8_lossy(&body).trim().to_owned();
            let reason = match reason.as_str() {
                "" => format!("the node answered {status}"),
                _ => reason,
            };
            let hint = (status == StatusCode::UNAUTHORIZED).then(|| self.token_hint());
            return Err(Refusal { reason, hint }.into());
        }
        let other = || {
            format!(
                "what listens at {} is no admin listener of this version",
                self.place()
            )
        };
        serde_json::from_slice(&body).with_context(other)
    }

    /// What to do about a token that is missing or another's.
    fn token_hint(&self) -> String {
        match &self.token {
            None => format!("Give it in the variable {ADMIN_TOKEN}, or with `--token-file`."),
            Some(Token { source, .. }) => format!(
                "It was given in {source}; the node has `admin.token` of its fanfare.toml or, without that, what the \
                 variable {ADMIN_TOKEN} held at its start."
            ),
        }
    }

    /// A connection to the admin listener. Whatever else is there, such as a guest of strangers, is asked one thing
    /// without the token, and nothing more.
    async fn reach(&self) -> Result<SendRequest<Full<Bytes>>> {
        let place = self.place();
        let socket = self.connect(&self.authority).await?;
        let address = socket.peer_addr()?;
        let mut sender = open(socket).await?;
        // Without a body, so the connection is free again after the head.
        let request = Request::head(health::LIVE)
            .header(header::HOST, &self.authority)
            .body(Full::default())?;
        let shown = timeout(SHOW, sender.send_request(request)).await;
        let shown = shown.with_context(|| {
            format!(
                "what listens at {place} has not answered within {SHOW:?} as the admin listener of a node does; \
                 {ELSEWHERE}"
            )
        })?;
        let shown = shown.with_context(|| {
            format!(
                "what listens at {place} does not answer as the admin listener of a node does; {ELSEWHERE}"
            )
        })?;
        if !shown.headers().contains_key(admin::MARK) {
            bail!("what answers at {place} is no admin listener of a node; {ELSEWHERE}");
        }
        // A proxy may close it after every answer. Then to the same address: the name may have others.
        match timeout(SHOW, sender.ready()).await {
            Ok(Ok(())) => Ok(sender),
            _ => open(self.connect(address).await?).await,
        }
    }

    async fn connect(&self, to: impl ToSocketAddrs) -> Result<TcpStream> {
        let place = self.place();
        let connecting = timeout(CONNECT, TcpStream::connect(to));
        let connected = connecting
            .await
            .with_context(|| format!("{place} does not answer"))?;
        connected.with_context(|| {
            format!(
                "cannot connect to {place}; is a node running with an admin listener there? `fanfare serve --admin \
                 127.0.0.1:9090` opens one, and `--node` says where it is"
            )
        })
    }
}

async fn open(socket: TcpStream) -> Result<SendRequest<Full<Bytes>>> {
    let (sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
    // It ends with the socket.
    tokio::spawn(connection);
    Ok(sender)
}

async fn exchange(
    mut sender: SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, bool, Bytes)> {
    let response = sender
        .send_request(request)
        .await
        .context("the node ended the connection before it answered")?;
    let (status, is_admin) = (
        response.status(),
        response.headers().contains_key(admin::MARK),
    );
    let body = Limited::new(response.into_body(), ANSWER_BYTES)
        .collect()
        .await;
    let body = body.map_err(|error| anyhow!("the node's answer broke off: {error}"))?;
    Ok((status, is_admin, body.to_bytes()))
}

/// Where to look for it instead.
const ELSEWHERE: &str = "that is where `admin.address` of its fanfare.toml, or `--admin`, says, such as \
                         http://127.0.0.1:9090, and not where its apps are";

/// The first digits of a version, as versions are shown.
pub fn short(version: &str) -> &str {
    version.get(..12).unwrap_or(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_may_go_to_this_machine_alone() {
        for own in [
            "http://127.0.0.1:9090",
            "http://127.1.2.3",
            "http://LOCALHOST:9090",
            "http://[::1]:9090",
            "http://[::ffff:127.0.0.1]",
        ] {
            assert!(is_this_machine(&authority(own).unwrap()), "{own}");
        }
        for foreign in [
            "http://node.example",
            "http://localhost.example.org:9090",
            "http://192.0.2.1:9090",
            "http://[2001:db8::1]:9090",
        ] {
            assert!(!is_this_machine(&authority(foreign).unwrap()), "{foreign}");
        }
    }

    #[test]
    fn a_node_is_an_address_of_plain_http() {
        for (text, host) in [
            ("http://127.0.0.1:9090", "127.0.0.1:9090"),
            ("http://localhost:1/", "localhost:1"),
            ("http://[::1]:9090", "[::1]:9090"),
            ("http://node.example", "node.example:80"),
        ] {
            assert_eq!(authority(text).unwrap(), host);
        }
        for (wrong, part) in [
            ("", "no address"),
            ("127.0.0.1:9090", "no address"),
            ("localhost:9090", "no address"),
            ("http://", "no address"),
            ("http://host/apps", "no address"),
            ("https://host", "tunnel"),
            ("http://:secret@host", "token"),
        ] {
            let error = format!("{:#}", authority(wrong).unwrap_err());
            assert!(error.contains(part), "{wrong}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
