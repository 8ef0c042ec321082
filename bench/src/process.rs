//! A server as a process: its start and end, CPU time and memory.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::{
    param::clock_ticks_per_second,
    process::{Pid, Signal, kill_process},
};

/// How long a server may take to listen, and to end.
const PATIENCE: Duration = Duration::from_secs(60);
const LAST_PATIENCE: Duration = Duration::from_secs(3);

/// How often it is looked whether it does.
const LOOK: Duration = Duration::from_millis(20);

/// A server that runs. Dropping it ends it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// The process and those that it has started.
    pids: Vec<i32>,
    /// The file with its output.
    log: PathBuf,
}

/// CPU time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    /// In the process's own code.
    pub user: Duration,
    /// In the kernel, for it.
    pub kernel: Duration,
}

/// An address of this machine where nobody listens.
pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

impl Process {
    /// Starts a server, with its output in a file of the folder, and waits until it listens.
    pub fn start(command: &mut Command, listens: SocketAddr, folder: &Path) -> Result<Self> {
        let log = folder.join("log");
        let out = File::create(&log)?;
        command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {:?}", command.get_program()))?;
        let mut process = Self {
            pids: vec![child.id() as i32],
            child,
            log,
        };
        let start = Instant::now();
        while TcpStream::connect(listens).is_err() {
            if let Some(status) = process.child.try_wait()? {
                bail!("it ended with {status}: {}", process.last_lines());
            }
            if start.elapsed() > PATIENCE {
                bail!("it does not listen: {}", process.last_lines());
            }
            thread::sleep(LOOK);
        }
        process.pids = descendants(process.pids[0])?;
        Ok(process)
    }

    /// What it said last.
    pub fn last_lines(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("; ")
    }

    /// The CPU time so far, of all threads and processes.
    pub fn cpu(&self) -> Result<Cpu> {
        self.pids.iter().try_fold(Cpu::default(), |sum, pid| {
            Ok(sum + cpu_of(&format!("/proc/{pid}/stat"))?)
        })
    }

    /// The bytes of memory: what belongs to several processes is divided among them (PSS).
    pub fn memory(&self) -> Result<u64> {
        let memory = |pid: &i32| -> Result<u64> {
            let path = format!("/proc/{pid}/smaps_rollup");
            let text = fs::read_to_string(&path).context(path)?;
            let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
            let words = line.unwrap_or_default().split_whitespace().next();
            let kib: u64 = words.context("no Pss in smaps_rollup")?.parse()?;
            Ok(kib * 1024)
        };
        self.pids.iter().map(memory).sum()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let signal = |pids: &[i32], signal| {
            for pid in pids.iter().filter_map(|pid| Pid::from_raw(*pid)) {
                // It may have ended already.
                let _ = kill_process(pid, signal);
            }
        };
        // The first of them ends the others, if it is asked.
        signal(&self.pids[..1], Signal::TERM);
        let start = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if start.elapsed() > LAST_PATIENCE {
                signal(&self.pids, Signal::KILL);
                let _ = self.child.wait();
            }
            thread::sleep(LOOK);
        }
    }
}

impl Cpu {
    /// That of this process, so far.
    pub fn own() -> Result<Self> {
        cpu_of("/proc/self/stat")
    }

    /// User and kernel.
    pub fn total(self) -> Duration {
        self.user + self.kernel
    }
}

impl std::ops::Add for Cpu {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            user: self.user + other.user,
            kernel: self.kernel + other.kernel,
        }
    }
}

impl std::ops::Sub for Cpu {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            user: self.user.saturating_sub(other.user),
            kernel: self.kernel.saturating_sub(other.kernel),
        }
    }
}

/// Reads the CPU time of all threads of a process.
fn cpu_of(path: &str) -> Result<Cpu> {
    let stat = fs::read_to_string(path).context("the server has ended")?;
    let ticks = |index| -> Result<Duration> {
        let ticks: u64 = field(&stat, index)?.parse()?;
        let per_second = clock_ticks_per_second();
        Ok(Duration::from_nanos(ticks * 1_000_000_000 / per_second))
    };
    Ok(Cpu {
        user: ticks(14)?,
        kernel: ticks(15)?,
    })
}

/// A field of a stat file, by the number in its manual, after the name of the program, which may hold anything.
fn field(stat: &str, number: usize) -> Result<&str> {
    let after = stat.rsplit_once(')').map(|(_, after)| after);
    let mut fields = after.unwrap_or_default().split_whitespace();
    fields.nth(number - 3).context("a stat file that is none")
}

/// A process, and those that it or they have started.
fn descendants(pid: i32) -> Result<Vec<i32>> {
    let mut pids = vec![pid];
    let all: Vec<(i32, i32)> = fs::read_dir("/proc")?
        .filter_map(|entry| {
            let name = entry.ok()?.file_name();
            let stat = fs::read_to_string(PathBuf::from("/proc").join(&name).join("stat")).ok()?;
            let parent = field(&stat, 4).ok()?.parse().ok()?;
            Some((name.to_str()?.parse().ok()?, parent))
        })
        .collect();
    let mut index = 0;
    while index < pids.len() {
        let parent = pids[index];
        pids.extend(
            all.iter()
                .filter(|entry| entry.1 == parent)
                .map(|entry| entry.0),
        );
        index += 1;
    }
    Ok(pids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let stat = "1 (a) 2) 3 4 5 6 7 8 9 10 11 12 13 14 15 16";
        for number in [3, 4, 14, 15] {
            assert_eq!(field(stat, number).unwrap(), number.to_string());
        }
        assert!(field(stat, 99).is_err());
    }

    #[test]
    fn a_process_has_descendants() {
        let own = std::process::id() as i32;
        let mut child = Command::new("sleep").arg("5").spawn().unwrap();
        let pids = descendants(own).unwrap();
        assert!(pids.contains(&(child.id() as i32)) && pids[0] == own);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn what_ends_at_once_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such luck; exit 3"]);
        // Nobody listens there.
        let address = SocketAddr::from(([127, 0, 0, 1], 9));
        let error = Process::start(&mut command, address, folder.path()).unwrap_err();
        assert!(error.to_string().contains("no such luck"), "{error}");
    }
}
