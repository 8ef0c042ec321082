//! A guest of the asynchronous flavour that misbehaves towards the other calls of its instance. The path of a request
//! says how.
//!
//! Calls that are to be parked are so until the registry has `go`; each says first that it is, in the registry, under
//! the value of its query parameter `as`.

use std::{
    hint::black_box,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use fanfare_guest::asynchronous::{
    App, Publisher, Request, Response, Result, export, registry, sleep, spawn,
};

struct Hostile;

/// Calls of `handle` in this instance.
static CALLS: AtomicU64 = AtomicU64::new(0);

/// How often a call looks at what it waits for.
const LOOK: Duration = Duration::from_millis(5);

impl App for Hostile {
    async fn start() -> Result<()> {
        let publisher = Publisher::in_memory();
        publisher.start().await?;
        registry::set("publisher", &publisher)
    }

    async fn handle(request: Request) -> Result<()> {
        let calls = CALLS.fetch_add(1, Ordering::Relaxed) + 1;
        let name = request.query_value("as").unwrap_or_default();
        match request.path().as_str() {
            "/well" => return request.respond(Response::text("well")),
            "/calls" => return request.respond(Response::text(calls.to_string())),
            "/has" => {
                let has = registry::has(&name);
                return request.respond(Response::text(has.to_string()));
            }
            "/go" => {
                registry::set("go", "")?;
                return request.respond(Response::text("gone"));
            }
            "/park" => {
                parked(&name).await?;
                return request.respond(Response::text("parked"));
            }
            // Goes on after it has returned.
            "/beside" => {
                spawn(async move {
                    let done = async {
                        parked(&name).await?;
                        registry::set("beside", "")
                    };
                    if let Err(error) = done.await {
                        eprintln!("{error}");
                    }
                });
                return request.respond(Response::text("begun"));
            }
            "/closed" => {
                let stream = request.upgrade()?;
                let publisher: Publisher = registry::get("publisher")?;
                publisher.register(&stream, "hostile").await?;
                stream.send("hello")?;
                let reason = stream.closed(None).await;
                return registry::set(&name, &format!("{reason:?}"));
            }
            "/sleep" => sleep(Duration::from_secs(3600)).await,
            // Waits in a function of WASI 0.2, which holds the whole instance.
            "/freeze" => std::thread::sleep(Duration::from_secs(3600)),
            "/loop" => spin(),
            "/panic" => panic!("one for all"),
            "/host-call-flood" => loop {
                black_box(registry::has(black_box("nothing")));
            },
            "/channel-flood" => {
                let publisher: Publisher = registry::get("publisher")?;
                for channel in 0..1_000_000 {
                    publisher.publish(&format!("flood:{channel}"), "x").await?;
                }
            }
            "/memory" => {
                let mut kept = Vec::new();
                loop {
                    kept.push(vec![1_u8; 1 << 20]);
                    black_box(&kept);
                }
            }
            "/handle-flood" => {
                let handles: Vec<_> = (0..1_000_000).map(|_| Publisher::in_memory()).collect();
                black_box(&handles);
            }
            _ => return request.respond(Response::not_found()),
        }
        Ok(())
    }
}

export!(Hostile);

/// Says that the call is parked, and waits.
async fn parked(name: &str) -> Result<()> {
    registry::set(name, "")?;
    while !registry::has("go") {
        sleep(LOOK).await;
    }
    Ok(())
}

fn spin() -> ! {
    let mut count = 0_u64;
    loop {
        count = black_box(count.wrapping_add(1));
    }
}
