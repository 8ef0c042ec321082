//! Redis with Sentinel: a primary and a replica, and those who watch over them.

use std::{fs, process::Command};

use super::{
    process::{Home, Program, Server},
    redis::{self, Options, Redis, RedisServer, Software},
};
use crate::wait;

/// The name under which the sentinels know the primary.
pub const SERVICE: &str = "fanfare";

/// After how many milliseconds of silence a server is gone. By itself it never is: one that a busy machine holds up is
/// no reason for another primary.
const NEVER_DOWN: &str = "600000";
/// The same where a server was killed.
const SOON_DOWN: &str = "1000";

/// What runs as a sentinel.
pub struct Sentinel {
    software: Software,
    /// Of the primary that it is told of first.
    port: u16,
    password: Option<String>,
    /// How many sentinels have to miss the primary.
    quorum: usize,
}

impl Program for Sentinel {
    const NAME: &'static str = "sentinel";

    /// A sentinel keeps what it learns in its configuration.
    fn prepare(&self, home: &Home) {
        let mut config = format!(
            "bind 127.0.0.1\nport {}\ndir {}\nsentinel monitor {SERVICE} 127.0.0.1 {} {}\n\
             sentinel down-after-milliseconds {SERVICE} {NEVER_DOWN}\nsentinel failover-timeout {SERVICE} 3000\n",
            home.port(),
            home.data().display(),
            self.port,
            self.quorum
        );
        if let Some(password) = &self.password {
            config += &format!("sentinel auth-pass {SERVICE} {password}\n");
        }
        fs::write(home.data().join("sentinel.conf"), config).expect("a file can be written");
    }

    fn command(&self, home: &Home) -> Command {
        let mut command = redis::server(self.software);
        command.arg(home.data().join("sentinel.conf"));
        command.arg("--sentinel");
        command
    }

    /// A sentinel forgets these periods, in milliseconds, when it ends. By its own it takes ten seconds to learn of a
    /// replica, eight to make a server that came back one, and stands aside for thirty on a machine so busy that it
    /// was kept waiting for two ("tilt").
    fn answers(&self, home: &Home) -> bool {
        let periods = "INFO-PERIOD 500 PUBLISH-PERIOD 250 TILT-TRIGGER 15000";
        let mut command = vec!["SENTINEL", "DEBUG"];
        command.extend(periods.split(' '));
        redis::ask(home, &[], &command).as_deref() == Some("OK")
    }
}

impl Server<Sentinel> {
    /// Asks it something with `redis-cli`, and returns what that prints.
    #[track_caller]
    pub fn ask(&self, command: &[&str]) -> String {
        let answer = redis::ask(&self.home, &[], command);
        answer.unwrap_or_else(|| panic!("redis-cli does not reach {}", self.address()))
    }

    /// Where it says that the primary is, as `host:port`.
    #[track_caller]
    pub fn primary(&self) -> String {
        self.ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE])
            .replace('\n', ":")
    }
}

/// A primary, a replica, and sentinels that make the replica the primary where that is [lost](Sentinels::lose_primary).
///
/// A server that comes back is made a replica of the other, so it loses what only it has.
pub struct Sentinels {
    /// The primary at first, and the replica at first.
    pub servers: [RedisServer; 2],
    /// Those who watch.
    pub sentinels: Vec<Server<Sentinel>>,
}

impl Sentinels {
    /// As many sentinels as that, most of which have to agree.
    #[track_caller]
    pub fn start(count: usize) -> Self {
        Self::start_with(count, Options::default())
    }

    /// The same with options for both servers, which must not speak TLS; a password is theirs, not the sentinels'.
    #[track_caller]
    pub fn start_with(count: usize, options: Options<'_>) -> Self {
        assert!(options.tls.is_none(), "sentinels speak no TLS here");
        // A replica is copied to at once.
        let new = || Redis::new(options).with("--repl-diskless-sync-delay 0");
        let primary = Server::launch(new());
        let replica = new().with(&format!("--replicaof 127.0.0.1 {}", primary.port()));
        let servers = [primary, Server::launch(replica)];
        let new = || Sentinel {
            software: options.software,
            port: servers[0].port(),
            password: options.password.map(str::to_owned),
            quorum: count / 2 + 1,
        };
        wait_until_replica(&servers[1], &servers[0]);
        let group = Self {
            sentinels: (0..count).map(|_| Server::launch(new())).collect(),
            servers,
        };
        group.wait_until_ready();
        group
    }

    /// Where the sentinels are, as `host:port`.
    pub fn addresses(&self) -> Vec<String> {
        self.sentinels.iter().map(Server::address).collect()
    }

    /// Which of the servers is the primary, as the sentinels say.
    #[track_caller]
    pub fn primary(&self) -> usize {
        wait::until("all sentinels agree on a primary", || {
            let said: Vec<_> = self.sentinels.iter().map(Server::primary).collect();
            let found = self.servers.iter().position(|at| at.address() == said[0]);
            found.filter(|_| said.iter().all(|address| *address == said[0]))
        })
    }

    /// Kills the primary, and waits until the sentinels have made the other one the primary.
    #[track_caller]
    pub fn lose_primary(&mut self) {
        let lost = self.primary();
        self.servers[lost].stop();
        self.set_down_after(SOON_DOWN);
        self.wait_until_primary(1 - lost);
        self.set_down_after(NEVER_DOWN);
    }

    /// Has the two change places while both live, and waits until they have.
    #[track_caller]
    pub fn fail_over(&self) {
        let before = self.primary();
        // Refused while another is going on, or for a replica of which nothing was heard lately.
        wait::until_true("a sentinel fails over", || {
            self.sentinels[0].ask(&["SENTINEL", "FAILOVER", SERVICE]) == "OK"
        });
        self.wait_until_primary(1 - before);
        wait_until_replica(&self.servers[before], &self.servers[1 - before]);
    }

    /// Waits until there is a replica to fail over to, and each sentinel knows of it and of the others. Needed after
    /// one of the servers came back, before the next is lost.
    #[track_caller]
    pub fn wait_until_ready(&self) {
        let primary = self.primary();
        wait_until_replica(&self.servers[1 - primary], &self.servers[primary]);
        let port = self.servers[1 - primary].port().to_string();
        for sentinel in &self.sentinels {
            wait::until_true("a sentinel knows the replica and the others", || {
                let replicas = sentinel.ask(&["SENTINEL", "REPLICAS", SERVICE]);
                let replicas: Vec<_> = replicas.lines().collect();
                let has = |name, value| replicas.windows(2).any(|pair| pair == [name, value]);
                let others = sentinel.ask(&["SENTINEL", "SENTINELS", SERVICE]);
                let others = others.lines().filter(|line| *line == "runid").count();
                has("port", &port)
                    && has("flags", "slave")
                    && has("master-link-status", "ok")
                    && others == self.sentinels.len() - 1
            });
        }
    }

    #[track_caller]
    fn set_down_after(&self, milliseconds: &str) {
        for sentinel in &self.sentinels {
            let setting = ["down-after-milliseconds", milliseconds];
            let command = [&["SENTINEL", "SET", SERVICE][..], &setting].concat();
            assert_eq!(sentinel.ask(&command), "OK");
        }
    }

    #[track_caller]
    fn wait_until_primary(&self, index: usize) {
        let server = &self.servers[index];
        wait::until_true("the sentinels have made it the primary", || {
            let said = |sentinel: &Server<Sentinel>| sentinel.primary() == server.address();
            let role = server.try_ask(&["ROLE"]).unwrap_or_default();
            role.starts_with("master") && self.sentinels.iter().all(said)
        });
    }
}

/// Waits until the one copies from the other, and hears what that is told from then on.
#[track_caller]
fn wait_until_replica(replica: &RedisServer, primary: &RedisServer) {
    wait::until_true("the replica has what the primary has", || {
        let [of, at] = [replica, primary].map(|server| {
            let said = server.try_ask(&["INFO", "replication"]);
            said.unwrap_or_default()
        });
        of.contains("master_link_status:up") && at.contains("state=online")
    });
}
