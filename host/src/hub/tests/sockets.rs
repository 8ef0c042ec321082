//! Sockets that were taken over.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
};

use tokio::sync::Semaphore;

use super::{super::delivery::outlet::Framing, *};

/// A connection over a real socket, and its client's side of it.
fn open_socket(
    hub: &Hub,
    framing: Framing,
    seats: &Arc<Semaphore>,
) -> (Arc<Connection>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    server.set_nonblocking(true).unwrap();
    let (connection, delivery) = hub.open(OpenOptions::default()).unwrap();
    let seat = seats.clone().try_acquire_owned().unwrap();
    delivery.take_over(server, framing, seat);
    (connection, client)
}

fn seats() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(100))
}

async fn ended_for(ended: &mut EndedReceiver) -> CloseReason {
    ended.recv().await.unwrap().reason
}

/// Everything until the end of the stream.
fn read_all(mut client: TcpStream) -> String {
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    text
}

#[tokio::test]
async fn events_leave_in_chunks_or_plain_and_the_seat_is_free_at_the_end() {
    let (hub, space) = hub();
    let seats = seats();
    let (chunked, chunked_client) = open_socket(&hub, Framing::Chunked, &seats);
    let (plain, plain_client) = open_socket(&hub, Framing::Close, &seats);
    for connection in [&chunked, &plain] {
        space.register(connection, &channel("a")).unwrap();
    }
    let event = text("x").with_id("1".into(), IdForm::Plain).unwrap();
    assert_eq!(space.publish(&channel("a"), &event).delivered, 2);
    settle(&hub).await;
    assert_eq!(hub.figures().delivered, 2);
    for connection in [&chunked, &plain] {
        hub.close(connection, CloseReason::Closed);
    }
    assert_eq!(
        read_all(chunked_client),
        "f\r\nid: 1\ndata: x\n\n\r\n0\r\n\r\n"
    );
    assert_eq!(read_all(plain_client), "id: 1\ndata: x\n\n");
    settle(&hub).await;
    assert_eq!(seats.available_permits(), 100);
}

#[tokio::test]
async fn what_waits_leaves_together_and_whole() {
    let (hub, space) = hub();
    let (connection, client) = open_socket(&hub, Framing::Close, &seats());
    space.register(&connection, &channel("a")).unwrap();
    let reader = std::thread::spawn(move || read_all(client));
    let data = "0123456789".repeat(700);
    for _ in 0..300 {
        space.publish(&channel("a"), &text(&data));
        // A queue of these settings takes nine of them.
        settle(&hub).await;
        while hub.figures().queued_bytes > 0 {
            settle(&hub).await;
        }
    }
    assert!(connection.is_open());
    hub.close(&connection, CloseReason::Closed);
    let wire = reader.join().unwrap();
    assert_eq!(wire.matches(&format!("data: {data}\n\n")).count(), 300);
    settle(&hub).await;
    assert_eq!(hub.figures().queued_bytes, 0);
}

#[tokio::test]
async fn one_that_does_not_read_is_closed_and_costs_nothing_afterwards() {
    let (hub, mut ended) = Hub::new(settings(), engine());
    let space = hub.space();
    let seats = seats();
    let (slow, _client) = open_socket(&hub, Framing::Chunked, &seats);
    space.register(&slow, &channel("a")).unwrap();
    let data = "x".repeat(50_000);
    while slow.is_open() {
        space.publish(&channel("a"), &text(&data));
        settle(&hub).await;
    }
    assert_eq!(ended_for(&mut ended).await, CloseReason::Slow);
    settle(&hub).await;
    assert_eq!(hub.figures().queued_bytes, 0);
    assert_eq!(seats.available_permits(), 100);
}

#[tokio::test]
async fn one_that_leaves_is_noticed_however_it_does() {
    let (hub, mut ended) = Hub::new(settings(), engine());
    let seats = seats();
    let (_, client) = open_socket(&hub, Framing::Chunked, &seats);
    drop(client);
    assert_eq!(ended_for(&mut ended).await, CloseReason::ClientGone);
    let (_, client) = open_socket(&hub, Framing::Chunked, &seats);
    socket2::SockRef::from(&client)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(client);
    assert_eq!(ended_for(&mut ended).await, CloseReason::ClientGone);
    // Half a goodbye is one, too.
    let (_, client) = open_socket(&hub, Framing::Chunked, &seats);
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(ended_for(&mut ended).await, CloseReason::ClientGone);
    // So is talking without end.
    let (_, mut client) = open_socket(&hub, Framing::Chunked, &seats);
    let talk = std::thread::spawn(move || while client.write_all(&[b'x'; 65536]).is_ok() {});
    assert_eq!(ended_for(&mut ended).await, CloseReason::ClientGone);
    talk.join().unwrap();
    settle(&hub).await;
    assert_eq!(seats.available_permits(), 100);
}

#[tokio::test]
async fn one_that_ends_before_its_socket_is_there_still_says_what_it_had_to_say() {
    let (hub, space) = hub();
    let seats = seats();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    server.set_nonblocking(true).unwrap();
    let (connection, delivery) = hub.open(OpenOptions::default()).unwrap();
    space.register(&connection, &channel("a")).unwrap();
    space.publish(&channel("a"), &text("first"));
    hub.close(&connection, CloseReason::Closed);
    settle(&hub).await;
    delivery.take_over(server, Framing::Chunked, seats.try_acquire_owned().unwrap());
    let wire = read_all(client);
    assert!(wire.contains("data: first\n\n\r\n0\r\n\r\n"), "{wire}");
}

#[tokio::test]
async fn most_of_what_waits_is_shed_first_when_a_node_has_too_much() {
    let engine = Engine::new(&delivery::Settings {
        queued_bytes: 3 << 20,
        ..node()
    })
    .unwrap();
    let (hub, mut ended) = Hub::new(
        Settings {
            queue_bytes: 1 << 30,
            ..settings()
        },
        engine.clone(),
    );
    let space = hub.space();
    let seats = seats();
    let data = "x".repeat(100_000);
    // None of them reads. The first hears more than the others, which hear the same.
    let clients: Vec<_> = (0..8)
        .map(|_| open_socket(&hub, Framing::Chunked, &seats))
        .collect();
    space.register(&clients[0].0, &channel("more")).unwrap();
    for (connection, _) in &clients {
        space.register(connection, &channel("all")).unwrap();
    }
    let worst = clients[0].0.id();
    for _ in 0..60 {
        space.publish(&channel("more"), &text(&data));
    }
    while ended.is_empty() {
        space.publish(&channel("all"), &text(&data));
        settle(&hub).await;
    }
    let first = ended.recv().await.unwrap();
    assert_eq!((first.connection, first.reason), (worst, CloseReason::Slow));
    settle(&hub).await;
    assert!(
        engine.queued_bytes() <= 3 << 20,
        "{}",
        engine.queued_bytes()
    );
    assert!(clients[1].0.is_open());
}
