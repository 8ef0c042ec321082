//! nginx, as a proxy that a test starts: a process of its own, with its own configuration, on a free port.

use std::{
    env, fs,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};

use tempfile::TempDir;

use crate::{servers::ports, wait};

/// A running nginx; killed on drop. What it logged is shown where the test has failed.
pub struct Nginx {
    /// Where it listens.
    pub address: SocketAddr,
    process: Child,
    folder: TempDir,
}

impl Nginx {
    /// Starts it with what stands in its `http` block, for the address that it is to listen on.
    #[track_caller]
    pub fn start(http: impl Fn(SocketAddr) -> String) -> Self {
        let mut nginx = Self::spawn(&program(), http);
        wait::until_true("nginx listens", || {
            let ended = nginx.has_ended();
            assert!(!ended, "nginx says:\n{}", nginx.log());
            TcpStream::connect(nginx.address).is_ok()
        });
        nginx
    }

    fn spawn(program: &Path, http: impl Fn(SocketAddr) -> String) -> Self {
        let folder = TempDir::with_prefix("fanfare-nginx-").expect("a temporary folder");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, ports::free()));
        let path = |name: &str| folder.path().join(name);
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|of| format!("{of}_temp_path {};\n", path(of).display()))
            .concat();
        // One process, so that its end is the end of all.
        let config = format!(
            "daemon off;\nmaster_process off;\npid {};\nerror_log {} info;\n\
             events {{ worker_connections 1000; }}\n\
             http {{\naccess_log off;\n{temporary}{}\n}}\n",
            path("nginx.pid").display(),
            path("error.log").display(),
            http(address)
        );
        fs::write(path("nginx.conf"), config).expect("a file can be written");
        let process = Command::new(program)
            .arg("-p")
            .arg(folder.path())
            .arg("-e")
            .arg(path("error.log"))
            .arg("-c")
            .arg(path("nginx.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx can be started");
        Self {
            address,
            process,
            folder,
        }
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("error.log")).unwrap_or_default()
    }

    fn has_ended(&mut self) -> bool {
        self.process
            .try_wait()
            .expect("a process has a state")
            .is_some()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if thread::panicking() {
            eprintln!("--- nginx at {} logged:\n{}---", self.address, self.log());
        }
    }
}

/// Where nginx is: Debian keeps it where only root looks.
fn program() -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let mut candidates = folders.map(|folder| folder.join("nginx"));
    candidates
        .find(|candidate| candidate.is_file())
        .expect("there is no nginx here; `scripts/setup` installs it")
}
