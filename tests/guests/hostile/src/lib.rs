//! A guest that misbehaves in every way that there is. The path of a request says how, the variables `start` and
//! `disconnected` how these do.

use std::{
    hint::black_box,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use fanfare_guest::{
    App, Disconnected, Disconnection, Error, Event, Publisher, Request, Response, Result, config,
    registry, sleep,
};

struct Hostile;

/// Calls of `handle` in this instance.
static CALLS: AtomicU64 = AtomicU64::new(0);

const HUGE: usize = 50 << 20;
const KEPT: usize = 32 << 20;

impl App for Hostile {
    fn start() -> Result<()> {
        match config::get("start")?.as_deref() {
            Some("trap") => panic!("no start"),
            Some("loop") => spin(),
            Some("error") => return Err(Error::Unavailable("the moon is not full".into())),
            _ => {}
        }
        let publisher = Publisher::in_memory();
        publisher.start()?;
        registry::set("publisher", &publisher)
    }

    fn handle(request: Request) -> Result<()> {
        let calls = CALLS.fetch_add(1, Ordering::Relaxed) + 1;
        match request.path().as_str() {
            "/well" => return request.respond(Response::text("well")),
            "/calls" => return request.respond(Response::text(calls.to_string())),
            "/loop" => spin(),
            "/loop-after-upgrade" => {
                upgraded(&request)?;
                spin();
            }
            "/memory" => {
                let mut kept = Vec::new();
                loop {
                    kept.push(vec![1_u8; 1 << 20]);
                    black_box(&kept);
                }
            }
            // Lasts for as long as the instance does.
            "/keep" => {
                std::mem::forget(black_box(vec![1_u8; KEPT]));
                return request.respond(Response::text("kept"));
            }
            "/recursion" => {
                black_box(deep(black_box(0)));
            }
            "/panic" => panic!("before the upgrade"),
            "/panic-after-upgrade" => {
                upgraded(&request)?;
                panic!("after the upgrade");
            }
            "/panic-after-answer" => {
                request.respond(Response::text("answered"))?;
                panic!("after the answer");
            }
            "/silence" => {}
            "/error" => return Err(Error::Other("an error of the handler".into())),
            "/sleep" => sleep(Duration::from_secs(3600)),
            "/log-flood" => {
                for line in 0..2_000 {
                    eprintln!("flood {line} {}", "x".repeat(1000));
                }
            }
            "/endless-line" => {
                let line = "y".repeat(1 << 16);
                for _ in 0..256 {
                    print!("{line}");
                }
            }
            "/handle-flood" => {
                let handles: Vec<_> = (0..1_000_000).map(|_| Publisher::in_memory()).collect();
                black_box(&handles);
            }
            "/registry-flood" => {
                let value = "z".repeat(1 << 16);
                for entry in 0..1_000_000 {
                    registry::set(&format!("flood:{entry}"), &value)?;
                }
            }
            "/registry-entries" => {
                for entry in 0..1_000_000 {
                    registry::set(&format!("entry:{entry}"), "")?;
                }
            }
            "/channels" => {
                let (stream, publisher) = (request.upgrade()?, publisher()?);
                for channel in 0..1_000_000 {
                    publisher.register(&stream, &format!("channel:{channel}"))?;
                }
            }
            "/upgrade" => {
                upgraded(&request)?;
            }
            "/host-call-flood" => loop {
                black_box(registry::has(black_box("nothing")));
            },
            "/channel-flood" => {
                let publisher = publisher()?;
                for channel in 0..1_000_000 {
                    publisher.publish(&format!("flood:{channel}"), "x")?;
                }
            }
            "/huge-data" => {
                publisher()?.publish("huge", Event::new("x".repeat(HUGE)))?;
            }
            "/huge-name" => {
                publisher()?.publish(&"x".repeat(HUGE), "small")?;
            }
            "/huge-answer" => return request.respond(Response::text("x".repeat(HUGE))),
            _ => return request.respond(Response::not_found()),
        }
        Ok(())
    }
}

impl Disconnected for Hostile {
    fn disconnected(_: Disconnection) {
        match config::get("disconnected").ok().flatten().as_deref() {
            Some("trap") => panic!("no end"),
            Some("loop") => spin(),
            _ => {}
        }
    }
}

fanfare_guest::export!(Hostile, disconnected);

fn publisher() -> Result<Publisher> {
    registry::get("publisher")
}

/// Opens a stream that says hello, and goes on to hear what is published.
fn upgraded(request: &Request) -> Result<()> {
    let stream = request.upgrade()?;
    publisher()?.register(&stream, "hostile")?;
    stream.send("hello")
}

fn spin() -> ! {
    let mut count = 0_u64;
    loop {
        count = black_box(count.wrapping_add(1));
    }
}

#[allow(unconditional_recursion, reason = "this is the misdeed")]
fn deep(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    deep(depth + 1) + black_box(frame)[0]
}
