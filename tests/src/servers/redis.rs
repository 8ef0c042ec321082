//! A Redis server, or a Valkey server in its place.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use super::process::{self, Home, Program, Server};
use crate::tls::Certificates;

/// Which software it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Software {
    /// `redis-server`.
    #[default]
    Redis,
    /// `valkey-server`.
    Valkey,
}

/// How a server is to be.
#[derive(Clone, Copy, Default)]
pub struct Options<'a> {
    /// Redis, unless said otherwise.
    pub software: Software,
    /// The password of the user `default`.
    pub password: Option<&'a str>,
    /// Speaks nothing but TLS, with these certificates.
    pub tls: Option<&'a Certificates>,
    /// Writes all that it acknowledges to a file (`appendonly`), and has it after a restart. Otherwise a restart
    /// empties it.
    pub persistent: bool,
}

/// What runs as a [`RedisServer`].
pub struct Redis {
    software: Software,
    arguments: Vec<String>,
    /// What `redis-cli` needs to talk to it, but for the port.
    client: Vec<String>,
    scheme: &'static str,
    login: String,
}

/// A server of its own.
pub type RedisServer = Server<Redis>;

impl Server<Redis> {
    /// A plain server without a password, which a restart empties.
    #[track_caller]
    pub fn start() -> Self {
        Self::start_with(Options::default())
    }

    /// A server with these options.
    #[track_caller]
    pub fn start_with(options: Options<'_>) -> Self {
        Self::launch(Redis::new(options))
    }

    /// Its URL, with the password.
    pub fn url(&self) -> String {
        let Redis { scheme, login, .. } = &self.program;
        format!("{scheme}://{login}{}", self.address())
    }

    /// Asks it something with `redis-cli`, such as `["GET", "key"]`, and returns what that prints.
    #[track_caller]
    pub fn ask(&self, command: &[&str]) -> String {
        let answer = self.try_ask(command);
        answer.unwrap_or_else(|| panic!("redis-cli does not reach the server:\n{}", self.log()))
    }

    /// The same, or nothing where the server is not there or ends the connection, as one does whose role changes.
    pub fn try_ask(&self, command: &[&str]) -> Option<String> {
        self.program.ask(&self.home, command)
    }
}

impl Redis {
    pub(super) fn new(options: Options<'_>) -> Self {
        let append = if options.persistent { "yes" } else { "no" };
        let mut arguments = words(&format!("--bind 127.0.0.1 --appendonly {append}"));
        arguments.extend(["--save".into(), String::new()]);
        let mut client = Vec::new();
        if let Some(tls) = options.tls {
            let path = |path: PathBuf| path.display().to_string();
            arguments.extend(words("--port 0 --tls-auth-clients no"));
            for (name, file) in [
                ("cert", tls.certificate()),
                ("key", tls.key()),
                ("ca-cert", tls.authority()),
            ] {
                arguments.extend([format!("--tls-{name}-file"), path(file)]);
            }
            client.extend(["--tls".into(), "--cacert".into(), path(tls.authority())]);
        }
        if let Some(password) = options.password {
            // Its own for its primary, if it gets one.
            for name in ["--requirepass", "--masterauth"] {
                arguments.extend([name.into(), password.into()]);
            }
            client.extend(["--no-auth-warning".into(), "-a".into(), password.into()]);
        }
        let login = options.password.map(|password| format!(":{password}@"));
        Self {
            software: options.software,
            arguments,
            client,
            scheme: if options.tls.is_some() {
                "rediss"
            } else {
                "redis"
            },
            login: login.unwrap_or_default(),
        }
    }

    /// Starts it with these words too.
    pub(super) fn with(mut self, arguments: &str) -> Self {
        self.arguments.extend(words(arguments));
        self
    }

    /// Asks the server there something with `redis-cli`.
    fn ask(&self, home: &Home, command: &[&str]) -> Option<String> {
        ask(home, &self.client, command)
    }
}

impl Program for Redis {
    const NAME: &'static str = "redis";

    fn command(&self, home: &Home) -> Command {
        let mut command = server(self.software);
        let port = if self.scheme == "rediss" {
            "--tls-port"
        } else {
            "--port"
        };
        command.args(&self.arguments);
        command.arg("--dir").arg(home.data());
        command.args([port, &home.port().to_string()]);
        command
    }

    fn answers(&self, home: &Home) -> bool {
        self.ask(home, &["PING"]).as_deref() == Some("PONG")
    }
}

/// The command of the server.
///
/// # Panics
///
/// Where the software is not installed.
#[track_caller]
pub(super) fn server(software: Software) -> Command {
    let found = match software {
        Software::Redis => process::find("redis-server", &[]),
        Software::Valkey => process::find("valkey-server", &[process::tools().join("valkey/bin")]),
    };
    Command::new(found.unwrap_or_else(|| {
        panic!("there is no {software:?} server here; `scripts/setup` installs it")
    }))
}

/// Asks the server there something with `redis-cli` and these options of it; nothing if that fails.
#[track_caller]
pub(super) fn ask(home: &Home, options: &[String], command: &[&str]) -> Option<String> {
    let asked = Command::new("redis-cli")
        .args(["-p", &home.port().to_string()])
        .args(options)
        .args(command)
        .stdin(Stdio::null())
        .output();
    let asked = asked.expect("redis-cli is installed; scripts/setup does it");
    let answer = String::from_utf8_lossy(&asked.stdout).trim_end().to_owned();
    asked.status.success().then_some(answer)
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}
