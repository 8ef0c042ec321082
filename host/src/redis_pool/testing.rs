//! A real Redis server for tests.

use std::{
    fs,
    future::Future,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        LazyLock,
        atomic::{AtomicU16, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{RedisClient, RedisPool, RedisUrl, Settings};

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server of its own, killed on drop.
pub(crate) struct Server {
    port: u16,
    pub(crate) options: Vec<String>,
    directory: TempDir,
    process: Option<Child>,
}

impl Server {
    /// A server on a port that was free.
    pub(crate) fn start(options: &[&str]) -> Self {
        let mut server = Self {
            port: free_port(),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            directory: tempfile::tempdir().unwrap(),
            process: None,
        };
        server.restart();
        server
    }

    /// Starts it again on its port, with nothing in it.
    pub(crate) fn restart(&mut self) {
        self.kill();
        // With `port 0` among the options, it is the port for TLS.
        let port = self.port.to_string();
        let options = self
            .options
            .iter()
            .map(|option| option.replace("{port}", &port));
        let child = Command::new("redis-server")
            .args([
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
                "--port",
                &port,
                "--dir",
            ])
            .arg(self.directory.path())
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server must be installed; scripts/setup does it");
        self.process = Some(child);
        let started = Instant::now();
        while !self.answers() {
            let ended = self.process.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "redis-server does not take its options");
            assert!(started.elapsed() < PATIENCE, "redis-server does not start");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Kills it without warning.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Lets it stand still, with all its connections open, or go on.
    pub(crate) fn freeze(&self, frozen: bool) {
        let signal = if frozen { "-STOP" } else { "-CONT" };
        let id = self.process.as_ref().unwrap().id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &id])
                .status()
                .unwrap()
                .success()
        );
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// A URL with this before the host, such as `user:password@`, and this after the port.
    pub(crate) fn url(&self, login: &str, rest: &str) -> RedisUrl {
        RedisUrl::parse(&format!("redis://{login}127.0.0.1:{}{rest}", self.port)).unwrap()
    }

    /// Asks it something over a connection of its own, such as `CLIENT LIST`.
    pub(crate) fn ask(&self, line: &str) -> String {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        socket
            .write_all(format!("{line}\r\nQUIT\r\n").as_bytes())
            .unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    }

    /// The connections of ours that it has: their ids, and for how many seconds each has been there.
    pub(crate) fn ours(&self) -> Vec<(String, u64)> {
        let list = self.ask("CLIENT LIST");
        let ours = list.lines().filter(|line| line.contains(" name=fanfare "));
        let of = |line: &str, name: &str| {
            let mut fields = line.split(' ').filter_map(|field| field.strip_prefix(name));
            fields.next().unwrap().to_owned()
        };
        ours.map(|line| (of(line, "id="), of(line, "age=").parse().unwrap()))
            .collect()
    }

    /// How many connections of ours it has.
    pub(crate) fn connections(&self) -> usize {
        self.ours().len()
    }

    /// A client without a password.
    pub(crate) async fn client(&self) -> RedisClient {
        pool(PATIENCE).connect(&self.url("", "")).await.unwrap()
    }

    fn answers(&self) -> bool {
        let Ok(mut socket) = TcpStream::connect(("127.0.0.1", self.port)) else {
            return false;
        };
        if self.options.iter().any(|option| option == "--tls-port") {
            return true;
        }
        let mut first = [0];
        // An error is an answer as well: it may want a password.
        socket.write_all(b"PING\r\n").is_ok() && socket.read_exact(&mut first).is_ok()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A pool that trusts nobody in particular.
pub(crate) fn pool(timeout: Duration) -> RedisPool {
    RedisPool::new(Settings {
        ca_file: None,
        timeout,
    })
    .unwrap()
}

/// A port that nobody listens on, nor will: it is none of those that the system gives to outgoing connections, and no
/// other test gets it. To listen there for a moment would tell as well, but a process that another test starts in that
/// moment has a copy of the socket until it runs its program.
pub(crate) fn free_port() -> u16 {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    /// Anywhere, so that other processes that do the same begin elsewhere.
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(rand::random()));
    loop {
        let port = FIRST + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        if TcpStream::connect(("127.0.0.1", port)).is_err() {
            return port;
        }
    }
}

/// Waits until something is so.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let started = Instant::now();
    while !condition().await {
        assert!(
            started.elapsed() < PATIENCE,
            "it never came to be that {what}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A private authority, and a certificate of it for `localhost` and 127.0.0.1.
pub(crate) struct Certificates {
    directory: TempDir,
}

impl Certificates {
    pub(crate) fn make() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority_key = rcgen::KeyPair::generate().unwrap();
        let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority_certificate = authority.self_signed(&authority_key).unwrap();
        let issuer = rcgen::Issuer::new(authority, authority_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let certificate = rcgen::CertificateParams::new(names)
            .unwrap()
            .signed_by(&key, &issuer)
            .unwrap();
        fs::write(directory.path().join("ca.pem"), authority_certificate.pem()).unwrap();
        fs::write(directory.path().join("cert.pem"), certificate.pem()).unwrap();
        fs::write(directory.path().join("key.pem"), key.serialize_pem()).unwrap();
        Self { directory }
    }

    pub(crate) fn authority(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// Starts a server that speaks TLS alone, with this certificate.
    pub(crate) fn server(&self, options: &[&str]) -> Server {
        let path = |file: &str| path_text(&self.directory.path().join(file));
        let (authority, certificate, key) = (path("ca.pem"), path("cert.pem"), path("key.pem"));
        let mut all = vec![
            "--port",
            "0",
            "--tls-port",
            "{port}",
            "--tls-auth-clients",
            "no",
            "--tls-ca-cert-file",
            &authority,
            "--tls-cert-file",
            &certificate,
            "--tls-key-file",
            &key,
        ];
        all.extend(options);
        Server::start(&all)
    }
}

fn path_text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
