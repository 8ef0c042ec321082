//! A Kafka broker, which is its own controller (KRaft).

use std::{
    fs,
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
};

use super::{
    ports,
    process::{self, Home, Program, Server},
    proxy::Proxy,
};
use crate::{tls::Certificates, wait};

/// How a broker is to be.
#[derive(Clone, Copy, Default)]
pub struct Options<'a> {
    /// The password of the user `fanfare`, asked for by SASL/PLAIN. Without one, everybody gets in.
    pub password: Option<&'a str>,
    /// It is asked for by SCRAM-SHA-256 or SCRAM-SHA-512 instead, as the client likes.
    pub scram: bool,
    /// Speaks nothing but TLS, with these certificates.
    pub tls: Option<&'a Certificates>,
    /// The way to it: a client that comes through this proxy is sent back to it by what the broker says of itself. The
    /// proxy leads to the broker from then on.
    pub behind: Option<&'a Proxy>,
}

/// What runs as a [`KafkaServer`].
pub struct Kafka {
    /// Where it is the controller.
    controller: u16,
    /// Where it listens for the proxy, and the address of that.
    behind: Option<(u16, String)>,
    password: Option<String>,
    scram: bool,
    /// The files with its certificate and key, and with the authority's certificate.
    tls: Option<[String; 2]>,
}

/// A broker of its own. A topic is made when first heard of, with one partition; what was acknowledged is there after a
/// restart.
pub type KafkaServer = Server<Kafka>;

impl Server<Kafka> {
    /// A plain broker that lets everybody in.
    #[track_caller]
    pub fn start() -> Self {
        Self::start_with(Options::default())
    }

    /// A broker with these options.
    #[track_caller]
    pub fn start_with(options: Options<'_>) -> Self {
        let behind = options.behind.map(|proxy| (ports::free(), proxy));
        if let Some((port, proxy)) = behind {
            proxy.lead_to(&format!("127.0.0.1:{port}"));
        }
        let read = |file| fs::read_to_string(file).expect("certificates are files");
        Self::launch(Kafka {
            controller: ports::free(),
            behind: behind.map(|(port, proxy)| (port, proxy.address())),
            password: options.password.map(str::to_owned),
            scram: options.scram,
            tls: options.tls.map(|tls| {
                let chain = read(tls.key()) + &read(tls.certificate());
                [chain, read(tls.authority())]
            }),
        })
    }

    /// Makes a topic with that many partitions.
    #[track_caller]
    pub fn create_topic(&self, topic: &str, partitions: u32) {
        self.create_topic_with(topic, partitions, &[]);
    }

    /// The same, with these settings, each `name=value`.
    #[track_caller]
    pub fn create_topic_with(&self, topic: &str, partitions: u32, settings: &[&str]) {
        let partitions = partitions.to_string();
        let settings = settings.iter().flat_map(|setting| ["--config", setting]);
        self.tool("TopicCommand")
            .args(["--create", "--topic", topic, "--partitions", &partitions])
            .args(settings)
            .finish("");
    }

    /// Adds partitions to a topic, so that it has that many.
    #[track_caller]
    pub fn add_partitions(&self, topic: &str, partitions: u32) {
        let partitions = partitions.to_string();
        self.tool("TopicCommand")
            .args(["--alter", "--topic", topic, "--partitions", &partitions])
            .finish("");
    }

    /// Deletes a topic.
    #[track_caller]
    pub fn delete_topic(&self, topic: &str) {
        self.tool("TopicCommand")
            .args(["--delete", "--topic", topic])
            .finish("");
    }

    /// Has Kafka's own producer send these records, keys and values without tabs and line ends, and waits until they
    /// are acknowledged.
    #[track_caller]
    pub fn produce(&self, topic: &str, records: &[(&str, &str)]) {
        self.produce_compressed(topic, "none", records);
    }

    /// As [`produce`](Self::produce), compressed: `gzip`, `snappy`, `lz4` or `zstd`.
    #[track_caller]
    pub fn produce_compressed(&self, topic: &str, codec: &str, records: &[(&str, &str)]) {
        let line = |(key, value): &(&str, &str)| format!("{key}\t{value}\n");
        self.tool("ConsoleProducer")
            .args(["--topic", topic, "--compression-codec", codec])
            .args(["--reader-property", "parse.key=true"])
            .finish(&records.iter().map(line).collect::<String>());
    }

    /// Has Kafka's own producer send a record with headers, as `name:value,name:value`, however large it is.
    #[track_caller]
    pub fn produce_with(&self, topic: &str, headers: &str, key: &str, value: &str) {
        self.tool("ConsoleProducer")
            .args(["--topic", topic])
            .args(["--command-property", "max.request.size=100000000"])
            .args(["--reader-property", "parse.key=true"])
            .args(["--reader-property", "parse.headers=true"])
            .finish(&format!("{headers}\t{key}\t{value}\n"));
    }

    /// Has Kafka's own consumer read the first records of a topic, as pairs of key and value. Waits for as many.
    #[track_caller]
    pub fn consume(&self, topic: &str, count: usize) -> Vec<(String, String)> {
        let read = self
            .tool("consumer.ConsoleConsumer")
            .args(["--topic", topic, "--from-beginning"])
            .args(["--formatter-property", "print.key=true"])
            .args(["--timeout-ms", &wait::PATIENCE.as_millis().to_string()])
            .args(["--max-messages", &count.to_string()])
            .finish("");
        let pair = |line: &str| {
            let (key, value) = line.split_once('\t').expect("a key and a value");
            (key.to_owned(), value.to_owned())
        };
        read.lines().map(pair).collect()
    }

    fn tool(&self, class: &str) -> Tool {
        let mut command = java();
        command.arg(format!("org.apache.kafka.tools.{class}"));
        command.args(["--bootstrap-server", &self.address()]);
        command
            .arg("--command-config")
            .arg(self.home.folder().join("client.properties"));
        Tool(command)
    }
}

impl Kafka {
    /// The protocol that clients speak, as Kafka calls it.
    fn protocol(&self) -> &'static str {
        match (&self.password, &self.tls) {
            (None, None) => "PLAINTEXT",
            (None, Some(_)) => "SSL",
            (Some(_), None) => "SASL_PLAINTEXT",
            (Some(_), Some(_)) => "SASL_SSL",
        }
    }

    /// How a client may say who it is, as Kafka calls it.
    fn mechanisms(&self) -> &'static [&'static str] {
        match self.scram {
            true => &["SCRAM-SHA-256", "SCRAM-SHA-512"],
            false => &["PLAIN"],
        }
    }

    /// What a client of the broker says who it is with, and where a listener's users begin.
    fn login(&self, password: &str) -> String {
        let module = match self.scram {
            true => "scram.ScramLoginModule",
            false => "plain.PlainLoginModule",
        };
        format!(
            "org.apache.kafka.common.security.{module} required username=\"fanfare\" password=\"{password}\""
        )
    }

    /// What the broker is told. One that comes back after a kill has to wait until its session before that has ended.
    fn properties(&self, home: &Home) -> String {
        let protocol = self.protocol();
        let controller = self.controller;
        let mut listeners = format!("CLIENTS://{}", home.address());
        let mut advertised = listeners.clone();
        if let Some((port, address)) = &self.behind {
            listeners += &format!(",PROXIED://127.0.0.1:{port}");
            advertised += &format!(",PROXIED://{address}");
        }
        let mut properties = format!(
            "process.roles=broker,controller\n\
             node.id=1\n\
             controller.quorum.voters=1@127.0.0.1:{controller}\n\
             controller.listener.names=CONTROLLER\n\
             inter.broker.listener.name=CLIENTS\n\
             listeners={listeners},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners={advertised}\n\
             listener.security.protocol.map=CLIENTS:{protocol},PROXIED:{protocol},CONTROLLER:PLAINTEXT\n\
             log.dirs={}\n\
             offsets.topic.replication.factor=1\n\
             offsets.topic.num.partitions=1\n\
             transaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\n\
             transaction.state.log.num.partitions=1\n\
             group.initial.rebalance.delay.ms=0\n\
             broker.session.timeout.ms=4000\n\
             broker.heartbeat.interval.ms=500\n",
            home.data().display()
        );
        if let Some(password) = &self.password {
            // Its own client too is the user `fanfare`.
            let mechanisms = self.mechanisms();
            properties += &format!(
                "sasl.enabled.mechanisms={}\nsasl.mechanism.inter.broker.protocol={}\n",
                mechanisms.join(","),
                mechanisms[0]
            );
            // Users of SCRAM are known from the beginning.
            let users = match self.scram {
                true => String::new(),
                false => format!(" user_fanfare=\"{password}\""),
            };
            for listener in ["clients", "proxied"] {
                for mechanism in mechanisms {
                    properties += &format!(
                        "listener.name.{listener}.{}.sasl.jaas.config={}{users};\n",
                        mechanism.to_lowercase(),
                        self.login(password)
                    );
                }
            }
        }
        if self.tls.is_some() {
            let file = |name: &str| home.folder().join(name).display().to_string();
            properties += &format!(
                "ssl.keystore.type=PEM\nssl.keystore.location={}\n{}",
                file("server.pem"),
                self.trust(home)
            );
        }
        properties
    }

    fn client_properties(&self, home: &Home) -> String {
        let mut properties = format!("security.protocol={}\n", self.protocol());
        if let Some(password) = &self.password {
            let (mechanism, login) = (self.mechanisms()[0], self.login(password));
            properties += &format!("sasl.mechanism={mechanism}\nsasl.jaas.config={login};\n");
        }
        if self.tls.is_some() {
            properties += &self.trust(home);
        }
        properties
    }

    fn trust(&self, home: &Home) -> String {
        let file = home.folder().join("authority.pem");
        format!(
            "ssl.truststore.type=PEM\nssl.truststore.location={}\n",
            file.display()
        )
    }
}

impl Program for Kafka {
    const NAME: &'static str = "kafka";

    fn prepare(&self, home: &Home) {
        let write = |name: &str, text: &str| {
            let file = home.folder().join(name);
            fs::write(&file, text).expect("a file can be written");
            file
        };
        if let Some([chain, authority]) = &self.tls {
            write("server.pem", chain);
            write("authority.pem", authority);
        }
        write("client.properties", &self.client_properties(home));
        let properties = write("server.properties", &self.properties(home));
        let scram = self.password.iter().filter(|_| self.scram);
        let users = scram.flat_map(|password| {
            self.mechanisms().iter().flat_map(move |mechanism| {
                let user = format!("{mechanism}=[name=fanfare,password={password}]");
                ["--add-scram".to_owned(), user]
            })
        });
        process::run(
            java()
                // Any id will do: the cluster has one node.
                .args([
                    "kafka.tools.StorageTool",
                    "format",
                    "-t",
                    "AAAAAAAAAAAAAAAAAAAAAA",
                    "-c",
                ])
                .arg(properties)
                .args(users),
        );
    }

    fn command(&self, home: &Home) -> Command {
        let mut command = java();
        command.arg("kafka.Kafka");
        command.arg(home.folder().join("server.properties"));
        command
    }

    /// Its listeners open before it has its place in the cluster, and this comes after that.
    fn answers(&self, home: &Home) -> bool {
        home.has_logged("Kafka Server started")
    }
}

/// A command of Kafka's.
struct Tool(Command);

impl Tool {
    fn args<'a>(mut self, arguments: impl IntoIterator<Item = &'a str>) -> Self {
        self.0.args(arguments);
        self
    }

    /// Gives it this to read, and returns what it prints.
    #[track_caller]
    fn finish(mut self, input: &str) -> String {
        let streams = self.0.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut tool = streams.stderr(Stdio::piped()).spawn().expect("java starts");
        let mut stdin = tool.stdin.take().expect("it is piped");
        stdin.write_all(input.as_bytes()).expect("the tool reads");
        drop(stdin);
        let done = tool.wait_with_output().expect("the tool ends");
        let says = String::from_utf8_lossy(&done.stderr);
        // A producer that gives up on a record ends well all the same, and says so.
        assert!(
            done.status.success() && !says.contains("ERROR"),
            "{:?} ends with {}:\n{says}",
            self.0,
            done.status
        );
        String::from_utf8(done.stdout).expect("it prints text")
    }
}

/// A virtual machine that starts fast and is small, with Kafka in it.
#[track_caller]
fn java() -> Command {
    let jars = process::tools().join("kafka");
    assert!(
        jars.is_dir(),
        "there is no Kafka here; `scripts/setup` installs it"
    );
    // What macOS has in `PATH` only asks for another to be installed, as brew does.
    let brew =
        ["/opt/homebrew", "/usr/local"].map(|prefix| format!("{prefix}/opt/openjdk/bin/java"));
    let found = brew
        .into_iter()
        .map(PathBuf::from)
        .find(|java| java.is_file());
    let found = found.or_else(|| process::find("java", &[]));
    let mut command =
        Command::new(found.expect("there is no Java here; `scripts/setup` installs it"));
    command.args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
    for setting in [
        "defaultLogLevel=warn",
        "log.kafka.server.KafkaRaftServer=info",
    ] {
        command.arg(format!("-Dorg.slf4j.simpleLogger.{setting}"));
    }
    command.arg("-cp").arg(jars.join("*"));
    command
}
