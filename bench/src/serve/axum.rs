//! What one writes first: axum's `Sse` over tokio's `broadcast`, a broadcast for each channel.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use anyhow::Result;
use axum::{
    Router,
    extract::{Query, RawQuery, State},
    http::{StatusCode, header},
    response::{
        IntoResponse, Response, Sse,
        sse::{Event, KeepAlive},
    },
    routing::{get, post},
};
use fanfare_bench_protocol::{HELLO, Publish};
use tokio::{net::TcpListener, runtime, sync::broadcast, task};
use tokio_stream::{Stream, StreamExt, wrappers::BroadcastStream};

/// An event, as it is broadcast.
#[derive(Clone)]
struct News {
    id: u64,
    data: String,
}

struct Channels {
    capacity: usize,
    by_name: Mutex<HashMap<String, broadcast::Sender<News>>>,
}

impl Channels {
    fn get(&self, name: &str) -> broadcast::Sender<News> {
        let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = by_name.entry(name.to_owned());
        entry
            .or_insert_with(|| broadcast::channel(self.capacity).0)
            .clone()
    }
}

/// Serves until the process is ended.
pub fn serve(listen: SocketAddr, capacity: usize) -> Result<()> {
    let channels = Arc::new(Channels {
        capacity,
        by_name: Mutex::default(),
    });
    let router = Router::new()
        .route("/events", get(events))
        .route("/publish", post(publish))
        .route("/hello", get(async || HELLO))
        .with_state(channels);
    let runtime = runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(listen).await?;
        Ok(axum::serve(listener, router).await?)
    })
}

async fn events(
    State(channels): State<Arc<Channels>>,
    Query(query): Query<HashMap<String, String>>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let channel = query.get("channel").map(String::as_str).unwrap_or_default();
    let receiver = channels.get(channel).subscribe();
    // Who is too far behind misses events, and is not told: the load generator finds out.
    let stream = BroadcastStream::new(receiver)
        .filter_map(Result::ok)
        .map(|news| Ok(Event::default().id(news.id.to_string()).data(news.data)));
    Sse::new(stream).keep_alive(KeepAlive::default())
}

async fn publish(State(channels): State<Arc<Channels>>, RawQuery(query): RawQuery) -> Response {
    let publish = match Publish::from_query(&query.unwrap_or_default()) {
        Ok(publish) => publish,
        Err(error) => return (StatusCode::BAD_REQUEST, error).into_response(),
    };
    let rounds = move || {
        publish.rounds(thread::sleep, |channel, payload, data| {
            // It fails where nobody listens, which is no mistake.
            let id = payload.number;
            let _ = channels.get(channel).send(News { id, data });
            Ok::<_, Infallible>(())
        })
    };
    match task::spawn_blocking(rounds).await {
        Ok(Ok(published)) => {
            let json = [(header::CONTENT_TYPE, "application/json")];
            (json, published.json()).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
