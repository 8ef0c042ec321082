//! This host's hub without a guest, and without an HTTP library: what delivery alone costs.
//!
//! A thread accepts, reads the head of a request and answers it; from there on a stream is the hub's.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use fanfare::{
    broker::publisher::Publisher,
    event::{Data, Event},
    hub::{
        Hub, Settings, Space,
        channel::ChannelName,
        connection::{OpenOptions, Timing},
        delivery::{self, Engine, outlet::Framing},
    },
};
use fanfare_bench_protocol::{Publish, Published};
use tokio::{runtime, sync::Semaphore};

const STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n\
    Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
/// More than any request of the benchmark has.
const HEAD_BYTES: usize = 16 * 1024;
const PLENTY: usize = 1 << 30;
/// How often events that have grown too old are forgotten: as often as the host does that.
const EXPIRE_EVERY: Duration = Duration::from_secs(1);

#[derive(Clone)]
struct Server {
    hub: Hub,
    space: Space,
    seats: Arc<Semaphore>,
}

/// Serves until the process is ended. A channel keeps `backlog` events for that time.
pub fn serve(listen: SocketAddr, backlog: usize, history_age: Duration) -> Result<()> {
    let engine = Engine::new(&delivery::Settings {
        shards: delivery::Settings::shards(),
        connections: PLENTY,
        connections_per_address: PLENTY,
        queued_bytes: PLENTY,
        write_timeout: Duration::from_secs(30),
    })?;
    let settings = Settings {
        history_events: backlog.max(100),
        history_bytes: PLENTY,
        history_total_bytes: 4 * PLENTY,
        history_age,
        queue_bytes: 16 << 20,
        connections: PLENTY,
        channels_per_connection: 100,
        event_data: 1 << 20,
    };
    let (hub, mut ended) = Hub::new(settings, engine);
    let server = Server {
        space: hub.space(),
        seats: Arc::new(Semaphore::new(PLENTY)),
        hub,
    };
    // Who has left is told, to a guest elsewhere; what nobody takes would pile up.
    let runtime = runtime::Builder::new_current_thread().build()?;
    thread::spawn(move || runtime.block_on(async { while ended.recv().await.is_some() {} }));
    let forgetful = server.hub.clone();
    thread::spawn(move || {
        loop {
            thread::sleep(EXPIRE_EVERY);
            forgetful.expire(Instant::now());
        }
    });
    let listener = TcpListener::bind(listen)?;
    loop {
        let (socket, _) = listener.accept()?;
        // A client may have left already; the others are served on.
        if let Err(error) = server.answer(socket) {
            eprintln!("{error:#}");
        }
    }
}

impl Server {
    fn answer(&self, mut socket: TcpStream) -> Result<()> {
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        let head = read_head(&mut socket)?;
        let target = head.split(' ').nth(1).unwrap_or_default();
        if let Some(channel) = target.strip_prefix("/events?channel=") {
            return self.stream(socket, channel, last_event_id(&head));
        }
        if target == "/metrics" {
            let channels = self.hub.figures().channels;
            return respond(&mut socket, &format!("fanfare_channels {channels}\n"));
        }
        let (path, query) = target.split_once('?').unwrap_or_default();
        let work = match path {
            "/publish" => publish_all,
            "/repeat" => repeat,
            _ => bail!("there is nothing at {target}"),
        };
        let publish = Publish::from_query(query).map_err(anyhow::Error::msg)?;
        let space = self.space.clone();
        thread::spawn(move || {
            let done = work(&space, &publish);
            let told = done.and_then(|published| respond(&mut socket, &published.json()));
            if let Err(error) = told {
                eprintln!("{error:#}");
            }
        });
        Ok(())
    }

    fn stream(&self, mut socket: TcpStream, channel: &str, last: Option<String>) -> Result<()> {
        socket.set_nodelay(true)?;
        let options = OpenOptions {
            last_event_id: last,
            timing: Timing {
                ping: Some(Duration::from_secs(15)),
                ..Timing::default()
            },
            client: None,
        };
        let (connection, delivery) = self.hub.open(options)?;
        self.space
            .register(&connection, &ChannelName::new(channel)?)?;
        connection.release();
        socket.write_all(STREAM.as_bytes())?;
        socket.set_nonblocking(true)?;
        let seat = self.seats.clone().try_acquire_owned()?;
        delivery.take_over(socket, Framing::Chunked, seat);
        Ok(())
    }
}

fn publish_all(space: &Space, publish: &Publish) -> Result<Published> {
    let runtime = runtime::Builder::new_current_thread().build()?;
    publish.rounds(thread::sleep, |channel, _, data| {
        let event = Event::new(Data::Text(data), space.event_data())?;
        space.publish(&ChannelName::new(channel)?, &event);
        runtime.block_on(space.room());
        anyhow::Ok(())
    })
}

/// What a guest's `publish` does in the host, without a guest.
fn repeat(space: &Space, publish: &Publish) -> Result<Published> {
    let runtime = runtime::Builder::new_current_thread().build()?;
    let publisher = Publisher::new("in-memory".to_owned(), space.clone(), None);
    let (channel, data) = (publish.channel(0), publish.data());
    runtime.block_on(async {
        publisher.start().await?;
        let start = Instant::now();
        for _ in 0..publish.events {
            let event = Event::new(Data::Text(data.clone()), space.event_data())?;
            publisher.publish(&channel, event).await?;
        }
        anyhow::Ok(publish.published(start))
    })
}

fn respond(socket: &mut TcpStream, body: &str) -> Result<()> {
    let length = body.len();
    write!(
        socket,
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    Ok(())
}

fn read_head(socket: &mut TcpStream) -> Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut bytes = [0; 4096];
        let count = socket.read(&mut bytes)?;
        if count == 0 || head.len() > HEAD_BYTES {
            bail!("a request without an end");
        }
        head.extend_from_slice(&bytes[..count]);
    }
    String::from_utf8(head).context("a request that is no text")
}

fn last_event_id(head: &str) -> Option<String> {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines
        .find(|(name, _)| name.eq_ignore_ascii_case("last-event-id"))
        .map(|(_, id)| id.to_owned())
}
