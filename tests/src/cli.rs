//! The other commands of the binary, which run to their end.

use std::{
    ffi::OsStr,
    net::SocketAddr,
    process::{Command, Stdio},
};

use crate::node::{ADMIN_TOKEN, Ended, binary};

/// A command that is to be run.
pub struct Cli(Command);

impl Cli {
    /// A command with its arguments, without a token and a node in its environment.
    pub fn new(arguments: &[&str]) -> Self {
        let mut command = Command::new(binary());
        command
            .args(arguments)
            .env_remove(ADMIN_TOKEN)
            .env_remove("FANFARE_NODE")
            .stdin(Stdio::null());
        Self(command)
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.0.arg(argument);
        self
    }

    /// Asks the node whose admin listener has this address.
    pub fn at(self, admin: SocketAddr) -> Self {
        self.arg("--node").arg(format!("http://{admin}"))
    }

    /// Sets a variable of the environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.0.env(name, value);
        self
    }

    /// Gives it something to read.
    pub fn stdin(mut self, from: impl Into<Stdio>) -> Self {
        self.0.stdin(from);
        self
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn run(mut self) -> Ended {
        let output = self.0.output().expect("the host can be started");
        Ended {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs it to its end, which has to be a good one, and returns what it printed.
    #[track_caller]
    pub fn good(self) -> String {
        let ended = self.run();
        assert!(ended.status.success(), "{}{}", ended.stdout, ended.stderr);
        ended.stdout
    }

    /// Runs it to its end, which has to be a failure, and returns what it says.
    #[track_caller]
    pub fn refused(self) -> String {
        let ended = self.run();
        assert_eq!(
            ended.status.code(),
            Some(1),
            "{}{}",
            ended.stdout,
            ended.stderr
        );
        ended.stderr
    }
}
