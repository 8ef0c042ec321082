//! What all servers have in common: a process on a port, with a folder.

use std::{
    env,
    fs::{self, File},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{ports, tree};

/// How long a server may take to start: a broker on the JVM beside many other tests needs its time.
const START_PATIENCE: Duration = Duration::from_secs(90);

/// How much of what a server logged is shown.
const SHOWN_LINES: usize = 60;

/// A kind of server.
pub trait Program {
    /// Its name, for messages.
    const NAME: &'static str;

    /// Puts into the folder what has to be there before the first start.
    fn prepare(&self, _home: &Home) {}

    /// What starts it in the foreground.
    fn command(&self, home: &Home) -> Command;

    /// Whether it serves.
    fn answers(&self, home: &Home) -> bool;

    /// Removes what it leaves outside its folder when it is killed.
    fn clear(&self, _home: &Home) {}
}

/// Where a server lives.
pub struct Home {
    folder: TempDir,
    port: u16,
    /// How long the log was when the server was last started.
    logged_before: usize,
}

impl Home {
    fn new(name: &str) -> Self {
        Self {
            folder: TempDir::with_prefix(format!("fanfare-{name}-")).expect("a temporary folder"),
            port: ports::free(),
            logged_before: 0,
        }
    }

    /// Its port, on `127.0.0.1`.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address, as `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The folder of its data, which is made anew when the server is to lose them.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The folder that [`data`](Self::data) is in, for what outlives the data.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Whether it has logged this since it was last started.
    pub fn has_logged(&self, text: &str) -> bool {
        String::from_utf8_lossy(&self.whole_log()[self.logged_before..]).contains(text)
    }

    /// The end of what it logged.
    pub fn log(&self) -> String {
        let log = self.whole_log();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
    }

    fn whole_log(&self) -> Vec<u8> {
        fs::read(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}

/// A server of its own; killed on drop. What it logged is shown where the test has failed.
pub struct Server<P: Program> {
    pub(super) program: P,
    pub(super) home: Home,
    process: Option<Child>,
}

impl<P: Program> Server<P> {
    /// Starts one on a free port, with nothing in it.
    #[track_caller]
    pub(super) fn launch(program: P) -> Self {
        let mut server = Self {
            program,
            home: Home::new(P::NAME),
            process: None,
        };
        server.restart_empty();
        server
    }

    /// Its port, on `127.0.0.1`.
    pub fn port(&self) -> u16 {
        self.home.port()
    }

    /// Its address, as `host:port`, for grants.
    pub fn address(&self) -> String {
        self.home.address()
    }

    /// Kills it, and all that it started, without warning (`SIGKILL`). Its port stays its own, and so do the data that
    /// it had written.
    #[track_caller]
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            tree::kill(&mut process);
        }
    }

    /// Whether it was stopped.
    pub fn is_stopped(&self) -> bool {
        self.process.is_none()
    }

    /// Starts it, again if it runs, on the port that it has, with the data that it had written.
    #[track_caller]
    pub fn restart(&mut self) {
        self.stop();
        self.home.logged_before = self.home.whole_log().len();
        let append = File::options()
            .append(true)
            .create(true)
            .open(self.home.log_file());
        let log = append.expect("a log can be written");
        let process = self
            .program
            .command(&self.home)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{} does not start: {error}", P::NAME));
        // Its own from now on, so that it ends whatever happens here.
        let process = self.process.insert(process);
        let begun = Instant::now();
        while !self.program.answers(&self.home) {
            let ended = process.try_wait().expect("a process has a state");
            let late = begun.elapsed() > START_PATIENCE;
            assert!(
                ended.is_none() && !late,
                "{} does not start:\n{}",
                P::NAME,
                self.home.log()
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Starts it, again if it runs, on the port that it has, with nothing in it.
    #[track_caller]
    pub fn restart_empty(&mut self) {
        self.stop();
        let data = self.home.data();
        if data.exists() {
            self.program.clear(&self.home);
            fs::remove_dir_all(&data).expect("a folder can be removed");
        }
        fs::create_dir(&data).expect("a folder can be made");
        self.program.prepare(&self.home);
        self.restart();
    }

    /// Lets it stand still, with all its sockets open.
    #[track_caller]
    pub fn freeze(&self) {
        tree::freeze(self.process.as_ref().expect("the server runs"));
    }

    /// Lets it go on after a freeze.
    #[track_caller]
    pub fn thaw(&self) {
        tree::thaw(self.process.as_ref().expect("the server runs"));
    }

    /// The end of what it logged.
    pub fn log(&self) -> String {
        self.home.log()
    }
}

impl<P: Program> Drop for Server<P> {
    fn drop(&mut self) {
        let failed = thread::panicking();
        if failed {
            let (name, address) = (P::NAME, self.address());
            eprintln!("--- {name} at {address} logged:\n{}\n---", self.log());
        }
        let ended = catch_unwind(AssertUnwindSafe(|| {
            self.stop();
            self.program.clear(&self.home);
        }));
        // A second panic in a test that fails would end all other tests.
        if let Err(panic) = ended
            && !failed
        {
            resume_unwind(panic);
        }
    }
}

/// A program in `PATH` or else in one of these folders.
pub(super) fn find(name: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let path: Vec<_> = env::split_paths(&path).collect();
    let mut candidates = path.iter().chain(folders).map(|folder| folder.join(name));
    candidates.find(|candidate| candidate.is_file())
}

/// A command that has to succeed, such as one that prepares a folder, and is killed where it does not end. Returns what
/// it prints.
#[track_caller]
pub(super) fn run(command: &mut Command) -> String {
    let streams = command.stdin(Stdio::null()).stdout(Stdio::piped());
    let child = streams.stderr(Stdio::piped()).spawn();
    let child = child.unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    let (id, (ended, is_over)) = (child.id(), mpsc::channel::<()>());
    thread::spawn(move || {
        if is_over.recv_timeout(START_PATIENCE) == Err(RecvTimeoutError::Timeout) {
            tree::signal("KILL", &[id]);
        }
    });
    let done = child.wait_with_output().expect("its output can be read");
    drop(ended);
    assert!(
        done.status.success(),
        "{command:?} ends with {}:\n{}{}",
        done.status,
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
    String::from_utf8_lossy(&done.stdout).trim_end().to_owned()
}

/// The folder of tools that `scripts/setup` fills.
pub(super) fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools")
}
