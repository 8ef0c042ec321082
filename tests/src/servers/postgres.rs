//! PostgreSQL.

use std::{
    fs::{self, Permissions},
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use super::process::{self, Home, Program, Server};
use crate::tls::Certificates;

/// Who may do everything.
const ROLE: &str = "fanfare";

/// The database that is there from the start.
const DATABASE: &str = "postgres";

/// How a server is to be.
#[derive(Clone, Copy, Default)]
pub struct Options<'a> {
    /// The password of the role `fanfare`, asked for by SCRAM-SHA-256. Without one, everybody gets in.
    pub password: Option<&'a str>,
    /// Speaks TLS too, with these certificates.
    pub tls: Option<&'a Certificates>,
}

/// What runs as a [`PostgresServer`].
pub struct Postgres {
    password: Option<String>,
    /// The certificate and the key, in PEM.
    tls: Option<[Vec<u8>; 2]>,
}

/// A server of its own, which listens on TCP only. What it acknowledged is there after a restart.
pub type PostgresServer = Server<Postgres>;

impl Server<Postgres> {
    /// A server that lets everybody in.
    #[track_caller]
    pub fn start() -> Self {
        Self::start_with(Options::default())
    }

    /// A server with these options.
    #[track_caller]
    pub fn start_with(options: Options<'_>) -> Self {
        let read = |file: PathBuf| fs::read(file).expect("certificates are files");
        Self::launch(Postgres {
            password: options.password.map(str::to_owned),
            tls: options
                .tls
                .map(|tls| [tls.certificate(), tls.key()].map(read)),
        })
    }

    /// Its URL, with the role, the password and the database.
    pub fn url(&self) -> String {
        let password = self.program.password.as_deref();
        let password = password.map(|password| format!(":{password}"));
        let password = password.unwrap_or_default();
        format!("postgres://{ROLE}{password}@{}/{DATABASE}", self.address())
    }

    /// Has `psql` run a statement, and returns what it prints: the rows, with `|` between their values.
    #[track_caller]
    pub fn ask(&self, statement: &str) -> String {
        process::run(&mut self.program.psql(&self.home, statement))
    }
}

impl Postgres {
    fn psql(&self, home: &Home, statement: &str) -> Command {
        let mut command = Command::new(binaries().join("psql"));
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]);
        command.args(["-h", "127.0.0.1", "-p", &home.port().to_string()]);
        command.args(["-U", ROLE, "-d", DATABASE, "-c", statement]);
        if let Some(password) = &self.password {
            command.env("PGPASSWORD", password);
        }
        command
    }
}

impl Program for Postgres {
    const NAME: &'static str = "postgres";

    fn prepare(&self, home: &Home) {
        let data = home.data();
        let mut command = as_user(home, "initdb");
        command.arg("-D").arg(&data);
        // Nothing here outlives the machine, so the files need not be on disk before the server starts.
        command.args(["--no-sync", "-U", ROLE, "-E", "UTF8", "--locale=C"]);
        match &self.password {
            None => command.args(["-A", "trust"]),
            Some(password) => {
                let file = home.folder().join("password");
                write(&file, password.as_bytes());
                command.args(["-A", "scram-sha-256", "--pwfile"]).arg(file)
            }
        };
        for path in [home.folder(), &data] {
            give(path);
        }
        process::run(&mut command);
        if let Some([certificate, key]) = &self.tls {
            // Where it looks for them by itself, readable for nobody else.
            write(&data.join("server.crt"), certificate);
            write(&data.join("server.key"), key);
        }
    }

    fn command(&self, home: &Home) -> Command {
        let mut command = as_user(home, "postgres");
        command.arg("-D").arg(home.data());
        command.args(["-p", &home.port().to_string()]);
        let mut set = |setting: &str| {
            command.args(["-c", setting]);
        };
        set("listen_addresses=127.0.0.1");
        set("unix_socket_directories=");
        // In its folder, and so removed with that.
        set("dynamic_shared_memory_type=mmap");
        // What other tests' servers need of the machine's memory.
        set("shared_buffers=16MB");
        if self.tls.is_some() {
            set("ssl=on");
        }
        command
    }

    fn answers(&self, home: &Home) -> bool {
        let mut psql = self.psql(home, "SELECT 1");
        let asked = psql.stdin(Stdio::null()).stderr(Stdio::null()).output();
        asked
            .expect("psql is installed; scripts/setup does it")
            .stdout
            == b"1\n"
    }

    /// A segment of System V shared memory, by which a server sees that another is in its folder, outlives a kill.
    fn clear(&self, home: &Home) {
        let file = fs::read_to_string(home.data().join("postmaster.pid")).unwrap_or_default();
        // The seventh line has its key and its id (PostgreSQL's `miscadmin.h`, "postmaster.pid").
        if let Some(id) = file
            .lines()
            .nth(6)
            .and_then(|line| line.split_whitespace().nth(1))
        {
            let removed = Command::new("ipcrm")
                .args(["-m", id])
                .stderr(Stdio::null())
                .status();
            removed.expect("ipcrm is installed");
        }
    }
}

/// A file that the server may read, and nobody else.
fn write(file: &Path, content: &[u8]) {
    fs::write(file, content).expect("a file can be written");
    fs::set_permissions(file, Permissions::from_mode(0o600)).expect("a file has permissions");
    give(file);
}

/// One of its commands, run as somebody it agrees to be run as: it refuses to be root.
fn as_user(home: &Home, name: &str) -> Command {
    let mut command = Command::new(binaries().join(name));
    if let Some((user, group)) = unprivileged() {
        command.uid(user).gid(group);
    }
    // Where this process is may be closed to that user.
    command.current_dir(home.folder());
    command
}

/// Makes a file or folder the property of whom the server runs as.
fn give(path: &Path) {
    if let Some((user, group)) = unprivileged() {
        chown(path, Some(user), Some(group)).expect("root gives files away");
    }
}

/// The user and the group to run it as, where this process is root.
fn unprivileged() -> Option<(u32, u32)> {
    static USER: OnceLock<Option<(u32, u32)>> = OnceLock::new();
    let id = |arguments: &[&str]| -> u32 {
        let id = process::run(Command::new("id").args(arguments));
        id.parse().expect("an id is a number")
    };
    let find = || (id(&["-u"]) == 0).then(|| (id(&["-u", "nobody"]), id(&["-g", "nobody"])));
    *USER.get_or_init(find)
}

/// The folder with all its commands. Debian keeps it out of `PATH`, brew too.
fn binaries() -> &'static Path {
    static BINARIES: OnceLock<PathBuf> = OnceLock::new();
    BINARIES.get_or_init(|| {
        let versions = ["/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt"];
        let mut folders: Vec<_> = versions
            .into_iter()
            .filter_map(|folder| fs::read_dir(folder).ok())
            .flat_map(|entries| entries.flatten())
            .map(|entry| entry.path().join("bin"))
            .collect();
        // The newest first.
        folders.sort();
        folders.reverse();
        let initdb = process::find("initdb", &folders);
        let initdb = initdb.expect("there is no PostgreSQL here; `scripts/setup` installs it");
        let initdb = initdb.canonicalize().expect("a file has a path");
        initdb.parent().expect("a file is in a folder").to_owned()
    })
}
