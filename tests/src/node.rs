//! The host as a process: how it is started, told to end, and what it logs.

mod lines;

use std::{
    ffi::OsStr,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rustls::ClientConfig;
use tempfile::TempDir;

use self::lines::Lines;
use crate::{
    client::{Request, Response, Socket},
    metrics::Metrics,
    stream::Stream,
    wait,
};

/// Where the token of an admin listener may stand; whoever runs the tests may have one of their own.
pub(crate) const ADMIN_TOKEN: &str = "FANFARE_ADMIN_TOKEN";

/// A node that is to be started.
pub struct Setup {
    command: Command,
    /// Its current folder.
    folder: TempDir,
    /// How many apps it will say to serve.
    apps: usize,
    /// Where it is to listen.
    listen: SocketAddr,
    /// How long it may take until it serves.
    patience: Duration,
}

/// A node that serves. It is killed on drop; what it logged is shown where the test has failed.
pub struct Node {
    /// Where it listens.
    pub address: SocketAddr,
    /// What its clients speak TLS with, if they do.
    tls: Option<Arc<ClientConfig>>,
    process: Child,
    stdout: Lines,
    stderr: Lines,
    folder: TempDir,
}

/// A node that has ended.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it logged.
    pub stderr: String,
}

/// The host's binary, which cargo puts two folders above the tests'.
pub(crate) fn binary() -> PathBuf {
    let tests = std::env::current_exe().expect("a test has a path");
    let profile = tests
        .ancestors()
        .nth(2)
        .expect("a test is in target/<profile>/deps");
    let binary = profile.join("fanfare-under-test");
    assert!(
        binary.exists(),
        "there is no {}; this is no test that cargo runs",
        binary.display()
    );
    binary
}

impl Setup {
    fn new(subcommand: &str) -> Self {
        let folder = TempDir::with_prefix("fanfare-node-").expect("a temporary folder");
        let mut command = Command::new(binary());
        command
            .arg(subcommand)
            .current_dir(folder.path())
            .env_remove(ADMIN_TOKEN)
            .stdin(Stdio::null());
        Self {
            command,
            folder,
            apps: 1,
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            patience: wait::PATIENCE,
        }
    }

    /// Sets a variable of the guest; for [`Node::serve`] only.
    pub fn var(self, name: &str, value: &str) -> Self {
        self.arg("--var").arg(format!("{name}={value}"))
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Listens on this address, as one did that has ended, and not on a free port.
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = address;
        self
    }

    /// Lets it take so long until it serves.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Sets a variable of the environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Puts a file into the folder of the configuration.
    pub fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        fs::write(self.folder.path().join(name), content).expect("a file can be written");
        self
    }

    /// The folder of the configuration, and the current folder of the node.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts it, on a free port unless told otherwise, and waits until it serves.
    #[track_caller]
    pub fn start(self) -> Node {
        self.start_with(" is served at ")
    }

    /// Starts it and waits until it listens, whether its apps serve yet or not.
    #[track_caller]
    pub fn start_waiting(self) -> Node {
        self.start_with(" served at ")
    }

    #[track_caller]
    fn start_with(self, words: &str) -> Node {
        let (apps, listen, patience) = (self.apps, self.listen.to_string(), self.patience);
        let mut node = self.arg("--listen").arg(listen).spawn();
        let mut started = Vec::new();
        // An app is served after another, but not before the last line nothing is accepted.
        for _ in 0..apps {
            let served = node.stdout.next_with(words, patience);
            started.push(served.unwrap_or_else(|| {
                panic!("the node ended before it served: {}", node.stderr.text())
            }));
        }
        let address = started[0]
            .split("://")
            .nth(1)
            .and_then(|rest| rest.split('/').next());
        let address = address.and_then(|address| address.parse().ok());
        node.address = address.unwrap_or_else(|| panic!("no address in {started:?}"));
        node
    }

    /// Runs it to its end, which has to come by itself.
    #[track_caller]
    pub fn run(self) -> Ended {
        self.spawn().wait()
    }

    /// Starts it and waits for nothing.
    #[track_caller]
    pub fn spawn(mut self) -> Node {
        let mut process = self
            .command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the host can be started");
        let stdout = Lines::of(process.stdout.take().expect("stdout is piped"));
        let stderr = Lines::of(process.stderr.take().expect("stderr is piped"));
        Node {
            address: SocketAddr::from(([0, 0, 0, 0], 0)),
            tls: None,
            process,
            stdout,
            stderr,
            folder: self.folder,
        }
    }
}

impl Node {
    /// A node that serves one guest without a configuration: `fanfare serve GUEST.wasm`.
    pub fn serve(guest: impl AsRef<OsStr>) -> Setup {
        Setup::new("serve").arg(guest)
    }

    /// A node that builds and swaps its guest: `fanfare dev PATH`.
    pub fn dev(path: impl AsRef<OsStr>) -> Setup {
        Setup::new("dev").arg(path)
    }

    /// A node that is told nothing: `fanfare serve`.
    pub fn bare() -> Setup {
        Setup::new("serve")
    }

    /// A node with this `fanfare.toml`.
    pub fn config(toml: &str) -> Setup {
        let mut setup = Setup::new("serve").file("fanfare.toml", toml);
        setup.apps = toml
            .lines()
            .filter(|line| line.trim_start().starts_with("component"))
            .count()
            .max(1);
        setup
    }

    /// The folder of the configuration.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The address of something on it, such as `http://127.0.0.1:1234/path`.
    pub fn url(&self, target: &str) -> String {
        format!("http://{}{target}", self.address)
    }

    /// Ends it at once, with no time for anything: SIGKILL.
    pub fn kill(mut self) {
        self.process.kill().expect("a process can be killed");
        self.process.wait().expect("a process has a state");
    }

    /// From now on every socket to it speaks TLS, with this configuration.
    pub fn over_tls(mut self, client: Arc<ClientConfig>) -> Self {
        self.tls = Some(client);
        self
    }

    /// A socket to it.
    #[track_caller]
    pub fn connect(&self) -> Socket {
        match &self.tls {
            Some(config) => Socket::connect_tls(self.address, config.clone()),
            None => Socket::connect(self.address),
        }
    }

    /// Sends a request over a socket of its own and reads the complete response.
    #[track_caller]
    pub fn request(&self, request: &Request) -> Response {
        self.connect().request(request)
    }

    /// A GET.
    #[track_caller]
    pub fn get(&self, target: &str) -> Response {
        self.request(&Request::get(target))
    }

    /// A POST.
    #[track_caller]
    pub fn post(&self, target: &str, body: impl Into<Vec<u8>>) -> Response {
        self.request(&Request::post(target, body))
    }

    /// Where its admin listener is.
    #[track_caller]
    pub fn admin(&self) -> SocketAddr {
        let line = self.wait_for_log("admin listening");
        let address = line.split("address=").nth(1);
        let address = address.and_then(|address| address.trim().parse().ok());
        address.unwrap_or_else(|| panic!("no address in {line:?}"))
    }

    /// What its metrics say.
    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        let page = Socket::connect(self.admin()).request(&Request::get("/metrics"));
        assert_eq!(page.status(), 200, "{}", page.text());
        Metrics::parse(page.text())
    }

    /// Opens an event stream as `EventSource` does.
    #[track_caller]
    pub fn events(&self, target: &str) -> Stream {
        self.connect().open(&Request::events(target))
    }

    /// Opens an event stream with any request.
    #[track_caller]
    pub fn open(&self, request: &Request) -> Stream {
        self.connect().open(request)
    }

    /// All lines of the log so far.
    pub fn log(&self) -> Vec<String> {
        self.stderr.all()
    }

    /// Waits for a line of the log, one that was there before included, and returns it.
    #[track_caller]
    pub fn wait_for_log(&self, part: &str) -> String {
        let line = self.stderr.find(|line| line.contains(part));
        line.unwrap_or_else(|| {
            panic!(
                "the node has not logged {part:?}, but:\n{}",
                self.stderr.text()
            )
        })
    }

    /// Waits for a line on standard output, one that was there before included, and returns it.
    #[track_caller]
    pub fn wait_for_print(&self, part: &str) -> String {
        let line = self.stdout.find(|line| line.contains(part));
        line.unwrap_or_else(|| {
            panic!(
                "the node has not printed {part:?}, but:\n{}and logged:\n{}",
                self.stdout.text(),
                self.stderr.text()
            )
        })
    }

    /// What it printed on standard output so far.
    pub fn printed(&self) -> Vec<String> {
        self.stdout.all()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// What it has in memory, in bytes.
    #[track_caller]
    pub fn memory(&self) -> usize {
        // Not everywhere is there a `ps`, and not everywhere this.
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let kilobytes = match status.split_once("VmRSS:") {
            Some((_, rest)) => rest.split_whitespace().next().map(str::to_owned),
            None => {
                let asked = Command::new("ps")
                    .args(["-o", "rss=", "-p", &self.pid().to_string()])
                    .output()
                    .expect("`ps` is there");
                Some(String::from_utf8_lossy(&asked.stdout).trim().to_owned())
            }
        };
        let kilobytes = kilobytes.and_then(|number| number.parse::<usize>().ok());
        kilobytes.expect("a number of kilobytes") * 1024
    }

    /// Sends it a signal, such as `TERM`.
    #[track_caller]
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &self.pid().to_string()])
            .status();
        assert!(
            sent.is_ok_and(|status| status.success()),
            "a signal reaches the node"
        );
    }

    /// Tells it to end: SIGTERM.
    #[track_caller]
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Tells it to end by two signals, one right after the other, SIGTERM and SIGINT, and returns how long that took.
    #[track_caller]
    pub fn terminate_twice(&self) -> Duration {
        let begun = Instant::now();
        let sent = Command::new("sh")
            .args(["-c", r#"kill -TERM "$1" && kill -INT "$1""#, "sh"])
            .arg(self.pid().to_string())
            .status();
        assert!(
            sent.is_ok_and(|status| status.success()),
            "signals reach the node"
        );
        begun.elapsed()
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.process
            .try_wait()
            .expect("a process has a state")
            .is_some()
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(mut self) -> Ended {
        let status = wait::until("the node ends", || {
            self.process.try_wait().expect("a process has a state")
        });
        // Its pipes end after it; the lines before that are read by now or in a moment.
        let (stdout, stderr) = (self.stdout.to_the_end(), self.stderr.to_the_end());
        Ended {
            status,
            stdout,
            stderr,
        }
    }

    /// Tells it to end and waits for it, which has to succeed.
    #[track_caller]
    pub fn stop(self) -> Ended {
        self.terminate();
        let ended = self.wait();
        assert!(
            ended.status.success(),
            "{:?}: {}",
            ended.status,
            ended.stderr
        );
        ended
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!(
                "--- the node at {} logged:\n{}---",
                self.address,
                self.stderr.text()
            );
        }
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
