//! A guest that misbehaves in every way that there is. The path of a request says how, the variable `start` how its
//! start does.

use std::{hint::black_box, time::Duration};

use fanfare_guest::{
    App, Error, Event, Publisher, Request, Response, Result, config, registry, sleep,
};

struct Hostile;

const HUGE: usize = 50 << 20;

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
        match request.path().as_str() {
            "/well" => return request.respond(Response::text("well")),
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
            "/huge-data" => {
                let publisher: Publisher = registry::get("publisher")?;
                publisher.publish("huge", Event::new("x".repeat(HUGE)))?;
            }
            "/huge-name" => {
                let publisher: Publisher = registry::get("publisher")?;
                publisher.publish(&"x".repeat(HUGE), "small")?;
            }
            "/huge-answer" => return request.respond(Response::text("x".repeat(HUGE))),
            _ => return request.respond(Response::not_found()),
        }
        Ok(())
    }
}

fanfare_guest::export!(Hostile);

/// Opens a stream that says hello, and goes on to hear what is published.
fn upgraded(request: &Request) -> Result<()> {
    let stream = request.upgrade()?;
    let publisher: Publisher = registry::get("publisher")?;
    publisher.register(&stream, "hostile")?;
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
