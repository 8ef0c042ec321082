//! Kafka: one broker that is its own controller, with the settings of its own start script, and rdkafka.
//!
//! Bare is a producer whose records are acknowledged as the broker's are, and which waits for no more of them, and a
//! consumer to which the only partition is assigned.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use fanfare::broker::{
    Broker, Retention,
    kafka::{Kafka as KafkaBroker, Settings, Topic},
};
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
    error::RDKafkaErrorCode,
    producer::{FutureProducer, FutureRecord},
};
use tempfile::TempDir;
use tokio::runtime::Handle;

use super::{Bare, Flood, Later, Pass, SETUP, SIZE, Server, Started, TIMEOUT, folder, program};
use crate::{
    contenders::repository,
    process::{Process, free_address},
};

/// How long the server may take to make a topic, the first time.
const PATIENCE: Duration = Duration::from_secs(60);
/// The topic of the bare client.
const TOPIC: &str = "bare";
/// What a node may keep of a log, in bytes.
const MEMORY: usize = 256 << 20;

struct Kafka {
    address: SocketAddr,
    _process: Process,
    _folder: TempDir,
}

/// Starts a server.
pub fn start() -> Result<Started> {
    let jars = repository().join("target/tools/kafka");
    let brew = [
        "/opt/homebrew/opt/openjdk/bin",
        "/usr/local/opt/openjdk/bin",
    ]
    .map(PathBuf::from);
    let Some(java) = program("java", &brew).filter(|_| jars.is_dir()) else {
        return Ok(Started::Missing(SETUP));
    };
    let (address, controller, folder) = (free_address()?, free_address()?, folder("kafka")?);
    let file = folder.path().join("server.properties");
    fs::write(&file, properties(address, controller, folder.path()))?;
    let kafka = |class: &str| {
        let mut command = Command::new(&java);
        // As Kafka's own start script has it.
        command.args([
            "-Xms1g",
            "-Xmx1g",
            "-XX:+UseG1GC",
            "-XX:MaxGCPauseMillis=20",
        ]);
        command.args([
            "-XX:InitiatingHeapOccupancyPercent=35",
            "-XX:+ExplicitGCInvokesConcurrent",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        ]);
        command.arg("-cp").arg(jars.join("*")).arg(class);
        command
    };
    // Any id will do: the cluster has one node.
    let formatted = kafka("kafka.tools.StorageTool")
        .args(["format", "-t", "AAAAAAAAAAAAAAAAAAAAAA", "-c", &text(&file)])
        .output()?;
    ensure!(
        formatted.status.success(),
        "the folder cannot be formatted: {}",
        String::from_utf8_lossy(&formatted.stderr)
    );
    let mut command = kafka("kafka.Kafka");
    command.arg(&file);
    let process = Process::start(&mut command, address, folder.path())?;
    let kafka = Kafka {
        address,
        _process: process,
        _folder: folder,
    };
    // It listens before it has its place in the cluster.
    let begun = Instant::now();
    while let Err(error) = Handle::current().block_on(kafka.make_topic()) {
        ensure!(begun.elapsed() < PATIENCE, "it makes no topic: {error:#}");
        thread::sleep(Duration::from_millis(200));
    }
    Ok(Started::Ready(Box::new(kafka)))
}

fn properties(address: SocketAddr, controller: SocketAddr, folder: &Path) -> String {
    let data = text(&folder.join("data"));
    format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@{controller}\n\
         controller.listener.names=CONTROLLER\n\
         inter.broker.listener.name=PLAINTEXT\n\
         listeners=PLAINTEXT://{address},CONTROLLER://{controller}\n\
         advertised.listeners=PLAINTEXT://{address}\n\
         log.dirs={data}\n\
         offsets.topic.replication.factor=1\n\
         offsets.topic.num.partitions=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         transaction.state.log.num.partitions=1\n"
    )
}

impl Kafka {
    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.address.to_string());
        config
    }

    /// Sees that there is the topic of the bare client.
    async fn make_topic(&self) -> Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.config().create()?;
        let topic = NewTopic::new(TOPIC, 1, TopicReplication::Fixed(1))
            .set("message.timestamp.type", "LogAppendTime");
        let options = AdminOptions::new().operation_timeout(Some(TIMEOUT));
        for made in admin.create_topics([&topic], &options).await? {
            match made {
                // An answer before may have been lost.
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((_, error)) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn producer(&self) -> Result<FutureProducer> {
        let mut config = self.config();
        config
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("linger.ms", "0")
            .set("socket.nagle.disable", "true");
        Ok(config.create()?)
    }
}

impl Server for Kafka {
    fn broker(&self, log: &str, retention: Retention) -> Result<Box<dyn Broker>> {
        let settings = Settings {
            servers: vec![self.address.to_string()],
            topic: Topic::Prefixed("fanfare.".to_owned()),
            partitions: 1,
            login: None,
            tls: None,
            timeout: TIMEOUT,
            memory: MEMORY,
        };
        let runtime = Handle::current();
        Ok(Box::new(KafkaBroker::new(
            settings, log, retention, runtime,
        )))
    }

    fn bare(&self) -> Later<'_, Vec<Bare>> {
        Box::pin(async {
            let mut config = self.config();
            config
                .set("group.id", "bare")
                .set("enable.auto.commit", "false")
                .set("socket.nagle.disable", "true");
            let consumer: BaseConsumer = config.create()?;
            let mut assignment = TopicPartitionList::new();
            assignment.add_partition_offset(TOPIC, 0, Offset::Beginning)?;
            consumer.assign(&assignment)?;
            Ok(vec![Bare {
                what: "producer, linger 0, and consumer",
                way: Box::new(Produced {
                    producer: self.producer()?,
                    consumer,
                }),
            }])
        })
    }

    fn bare_rate<'a>(&'a self, flood: &'a Flood) -> Later<'a, f64> {
        Box::pin(async {
            let producer = Arc::new(self.producer()?);
            let publish = move |_| {
                let producer = producer.clone();
                async move {
                    let payload = [b'x'; SIZE];
                    let record = FutureRecord::to(TOPIC)
                        .partition(0)
                        .key("bare")
                        .payload(&payload);
                    let sent = producer.send(record, TIMEOUT).await;
                    sent.map(drop).map_err(|(error, _)| error.into())
                }
            };
            flood.run(publish).await
        })
    }
}

struct Produced {
    producer: FutureProducer,
    consumer: BaseConsumer,
}

impl Pass for Produced {
    fn pass<'a>(&'a mut self, payload: &'a [u8]) -> Later<'a, Duration> {
        Box::pin(async move {
            let begun = Instant::now();
            let record = FutureRecord::to(TOPIC)
                .partition(0)
                .key("bare")
                .payload(payload);
            let sent = self.producer.send_result(record);
            let sent = sent.map_err(|(error, _)| error)?;
            // On this thread, which has nothing else to do: nothing is faster.
            let heard = self.consumer.poll(TIMEOUT).context("nothing is heard")??;
            ensure!(heard.payload() == Some(payload), "another record");
            let took = begun.elapsed();
            sent.await?.map_err(|(error, _)| error)?;
            Ok(took)
        })
    }
}

/// The path as an argument.
fn text(path: &Path) -> String {
    path.display().to_string()
}
