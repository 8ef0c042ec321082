//! A Redis server that a test may stop and start.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{tls::Certificates, wait};

/// How a server is to be.
#[derive(Default)]
pub struct Options<'a> {
    /// The password of the user `default`.
    pub password: Option<&'a str>,
    /// Speaks nothing but TLS, with these certificates.
    pub tls: Option<&'a Certificates>,
}

/// A server of its own, with nothing in it at each start; killed on drop.
pub struct RedisServer {
    port: u16,
    /// What it is started with.
    arguments: Vec<String>,
    /// What `redis-cli` needs to talk to it.
    client: Vec<String>,
    scheme: &'static str,
    login: String,
    process: Option<Child>,
    _folder: TempDir,
}

impl RedisServer {
    /// A plain server without a password.
    #[track_caller]
    pub fn start() -> Self {
        Self::start_with(Options::default())
    }

    /// A server with these options.
    #[track_caller]
    pub fn start_with(options: Options<'_>) -> Self {
        let folder = TempDir::with_prefix("fanfare-redis-").expect("a temporary folder");
        let port = free_port();
        let path = |path: std::path::PathBuf| path.display().to_string();
        let mut arguments = words("--bind 127.0.0.1 --appendonly no --dir");
        arguments.extend([
            path(folder.path().to_owned()),
            "--save".into(),
            String::new(),
        ]);
        let mut client = vec!["-p".into(), port.to_string()];
        match options.tls {
            None => arguments.extend(["--port".into(), port.to_string()]),
            Some(tls) => {
                arguments.extend(words(&format!(
                    "--port 0 --tls-auth-clients no --tls-port {port}"
                )));
                for (name, file) in [
                    ("cert", tls.certificate()),
                    ("key", tls.key()),
                    ("ca-cert", tls.authority()),
                ] {
                    arguments.extend([format!("--tls-{name}-file"), path(file)]);
                }
                client.extend(["--tls".into(), "--cacert".into(), path(tls.authority())]);
            }
        }
        if let Some(password) = options.password {
            arguments.extend(["--requirepass".into(), password.into()]);
            client.extend(["--no-auth-warning".into(), "-a".into(), password.into()]);
        }
        let mut server = Self {
            port,
            arguments,
            client,
            scheme: if options.tls.is_some() {
                "rediss"
            } else {
                "redis"
            },
            login: options
                .password
                .map(|password| format!(":{password}@"))
                .unwrap_or_default(),
            process: None,
            _folder: folder,
        };
        server.restart();
        server
    }

    /// Its port, on `127.0.0.1`.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address, as `host:port`, for grants.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its URL, with the password.
    pub fn url(&self) -> String {
        format!("{}://{}{}", self.scheme, self.login, self.address())
    }

    /// Kills it without warning. Its port stays its own.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("a server can be killed");
            process.wait().expect("a server ends");
        }
    }

    /// Starts it, again if it runs, on the port that it has, with nothing in it.
    #[track_caller]
    pub fn restart(&mut self) {
        self.stop();
        let process = Command::new("redis-server")
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed; scripts/setup does it");
        // Its own from now on, so that it ends whatever happens here.
        self.process = Some(process);
        let begun = Instant::now();
        while self.try_ask(&["PING"]).as_deref() != Some("PONG") {
            let ended = self
                .process
                .as_mut()
                .and_then(|process| process.try_wait().expect("a process has a state"));
            assert_eq!(
                ended, None,
                "redis-server does not take {:?}",
                self.arguments
            );
            assert!(
                begun.elapsed() < wait::PATIENCE,
                "redis-server does not start"
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Lets it stand still, with all its sockets open, or go on.
    pub fn freeze(&self, frozen: bool) {
        let process = self.process.as_ref().expect("the server runs");
        let signal = if frozen { "-STOP" } else { "-CONT" };
        let sent = Command::new("kill")
            .args([signal, &process.id().to_string()])
            .status();
        assert!(
            sent.is_ok_and(|status| status.success()),
            "a signal reaches the server"
        );
    }

    /// Asks it something with `redis-cli`, such as `["GET", "key"]`, and returns what that prints.
    #[track_caller]
    pub fn ask(&self, command: &[&str]) -> String {
        self.try_ask(command).expect("redis-cli reaches the server")
    }

    fn try_ask(&self, command: &[&str]) -> Option<String> {
        let asked = Command::new("redis-cli")
            .args(&self.client)
            .args(command)
            .stdin(Stdio::null())
            .output();
        let asked = asked.expect("redis-cli is installed; scripts/setup does it");
        let answer = String::from_utf8_lossy(&asked.stdout).trim_end().to_owned();
        asked.status.success().then_some(answer)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}
