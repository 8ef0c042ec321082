//! The pool against a real server.

use std::time::Instant;

use futures_util::FutureExt;

use super::{
    testing::{Certificates, Server, free_port, pool, until},
    *,
};

const TIMEOUT: Duration = Duration::from_secs(15);
/// For what is to run into it.
const SHORT: Duration = Duration::from_millis(300);
/// The same where a server has to answer before.
const LONGER: Duration = Duration::from_secs(2);

fn bytes(text: &str) -> Vec<u8> {
    text.into()
}

fn arguments(line: &str) -> Vec<Vec<u8>> {
    line.split_whitespace().map(bytes).collect()
}

#[tokio::test]
async fn all_clients_of_a_url_share_one_connection() {
    let server = Server::start(&[]);
    let pool = Arc::new(pool(TIMEOUT));
    let url = server.url("", "");
    let many: Vec<_> = (0..50)
        .map(|_| {
            let (pool, url) = (pool.clone(), url.clone());
            tokio::spawn(async move { pool.connect(&url).await.unwrap() })
        })
        .collect();
    let mut clients = Vec::new();
    for client in many {
        clients.push(client.await.unwrap());
    }
    let other_spelling = server.url("", "/0");
    clients.push(pool.connect(&other_spelling).await.unwrap());
    assert_eq!(server.connections(), 1);

    let other_database = pool.connect(&server.url("", "/3")).await.unwrap();
    assert_eq!(server.connections(), 2);
    other_database.set("k", bytes("3"), None).await.unwrap();
    assert_eq!(clients[0].get("k").await.unwrap(), None);

    // All of it is given back with the pool and its clients.
    drop((clients, other_database, pool));
    until("the connections are closed", || async {
        server.connections() == 0
    })
    .await;
}

#[tokio::test]
async fn typed_commands_do_what_they_say() {
    let server = Server::start(&[]);
    let client = server.client().await;
    assert_eq!(client.get("k").await.unwrap(), None);
    client.set("k", b"\0\xff\r\n".to_vec(), None).await.unwrap();
    assert_eq!(client.get("k").await.unwrap(), Some(b"\0\xff\r\n".to_vec()));
    assert!(client.exists("k").await.unwrap());
    assert!(client.expire("k", 60_000).await.unwrap());
    assert!(!client.expire("none", 60_000).await.unwrap());
    client.set("short", bytes("x"), Some(1)).await.unwrap();
    until("the key is gone", || async {
        !client.exists("short").await.unwrap()
    })
    .await;
    assert!(matches!(
        client.set("k", bytes("x"), Some(0)).await,
        Err(RedisError::Invalid(_))
    ));
    assert!(matches!(
        client.expire("k", 0).await,
        Err(RedisError::Invalid(_))
    ));
    assert_eq!(client.incr("n", 5).await.unwrap(), 5);
    assert_eq!(client.incr("n", -7).await.unwrap(), -2);
    assert_eq!(client.incr("n", i64::MIN).await.map_err(|_| ()), Err(()));
    assert_eq!(
        client
            .sadd("s", vec![bytes("a"), bytes("b"), bytes("a")])
            .await
            .unwrap(),
        2
    );
    assert_eq!(
        client
            .srem("s", vec![bytes("a"), bytes("c")])
            .await
            .unwrap(),
        1
    );
    assert_eq!(client.smembers("s").await.unwrap(), [bytes("b")]);
    assert_eq!(
        client.smembers("none").await.unwrap(),
        Vec::<Vec<u8>>::new()
    );
    assert_eq!(client.sadd("s", Vec::new()).await.unwrap(), 0);
    assert_eq!(client.publish("nobody", bytes("x")).await.unwrap(), 0);
    assert_eq!(
        client
            .del(vec!["k".into(), "n".into(), "none".into()])
            .await
            .unwrap(),
        2
    );
    assert_eq!(client.del(Vec::new()).await.unwrap(), 0);
    let error = client.incr("s", 1).await.unwrap_err();
    assert!(
        matches!(&error, RedisError::Other(text) if text.starts_with("WRONGTYPE ")),
        "{error}"
    );
}

#[tokio::test]
async fn any_command_can_be_sent_and_answers_in_the_newer_protocol() {
    let server = Server::start(&[]);
    let client = server.client().await;
    let parts = |line: &'static str| {
        let client = client.clone();
        async move {
            let (command, rest) = line.split_once(' ').unwrap();
            flatten(client.execute(command, arguments(rest)).await.unwrap()).unwrap()
        }
    };
    assert_eq!(parts("hset h a 1").await, [Part::Integer(1)]);
    assert_eq!(
        parts("HGETALL h").await,
        [
            Part::Array(2),
            Part::Bytes(bytes("a")),
            Part::Bytes(bytes("1"))
        ]
    );
    assert_eq!(parts("ZADD z 1.5 m").await, [Part::Integer(1)]);
    assert_eq!(parts("ZSCORE z m").await, [Part::Double(1.5)]);
    assert_eq!(parts("GET none").await, [Part::Nil]);
    assert_eq!(
        parts("EVAL return{1,{redis.error_reply('MY'),redis.status_reply('fine')}} 0").await,
        [
            Part::Array(2),
            Part::Integer(1),
            Part::Array(2),
            Part::Error("ERR MY".into()),
            Part::Status("fine".into())
        ]
    );
    let error = client
        .execute("NOSUCH", vec![b"\xff\r\n".to_vec()])
        .await
        .unwrap_err();
    assert!(
        matches!(&error, RedisError::Other(text) if text.contains("unknown command")),
        "{error}"
    );
}

#[tokio::test]
async fn what_the_shared_connection_cannot_bear_never_reaches_it() {
    let server = Server::start(&[]);
    let client = server.client().await;
    for line in [
        "SUBSCRIBE c",
        "monitor x",
        "MULTI x",
        "SELECT 1",
        "BLPOP k 0",
        "CLIENT REPLY OFF",
        "XREAD BLOCK 0 STREAMS s $",
    ] {
        let (command, rest) = line.split_once(' ').unwrap();
        let error = client.execute(command, arguments(rest)).await.unwrap_err();
        assert!(matches!(error, RedisError::Denied(_)), "{line}: {error}");
    }
    assert!(matches!(
        client.execute("GET k", Vec::new()).await,
        Err(RedisError::Invalid(_))
    ));
    assert_eq!(client.get("k").await, Ok(None));
}

#[tokio::test]
async fn a_guest_with_odd_answers_harms_no_other() {
    let server = Server::start(&[]);
    let client = server.client().await;
    let setrange = client.execute("SETRANGE", arguments("large 40000000 x"));
    setrange.await.unwrap();
    let eval = |script: &str| client.execute("EVAL", vec![bytes(script), bytes("0")]);
    let quiet = tokio::spawn({
        let client = client.clone();
        async move {
            for number in 1..=500 {
                assert_eq!(client.incr("n", 1).await, Ok(number));
            }
        }
    });
    for _ in 0..5 {
        let deep = "local t = {1} for i = 1, 60 do t = {t} end return t";
        assert!(matches!(eval(deep).await, Err(RedisError::Limited(_))));
        let large = client.get("large").await;
        assert!(matches!(large, Err(RedisError::Limited(_))));
        assert!(matches!(
            eval("return {ok = '\\255'}").await,
            Err(RedisError::Other(_))
        ));
        assert!(matches!(
            eval("return {err = '\\255'}").await,
            Err(RedisError::Other(_))
        ));
    }
    quiet.await.unwrap();
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn refused_credentials_are_denied_and_tried_anew() {
    let mut server = Server::start(&["--requirepass", "hunter2"]);
    let pool = pool(TIMEOUT);
    for (login, hint) in [
        ("", "NOAUTH"),
        (":wrong@", "WRONGPASS"),
        ("bob:hunter2@", "WRONGPASS"),
    ] {
        let error = pool.connect(&server.url(login, "")).await.unwrap_err();
        assert!(
            matches!(&error, RedisError::Denied(text) if text.contains(hint)),
            "{login}: {error}"
        );
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
    pool.connect(&server.url(":hunter2@", "")).await.unwrap();
    pool.connect(&server.url("default:hunter2@", ""))
        .await
        .unwrap();
    // What failed is not remembered.
    server.options = vec!["--requirepass".into(), "wrong".into()];
    server.restart();
    pool.connect(&server.url(":wrong@", "")).await.unwrap();
}

#[tokio::test]
async fn users_have_the_permissions_that_the_server_gives_them() {
    let server = Server::start(&["--user", "bob", "on", ">pw", "+get", "~mine"]);
    let pool = pool(TIMEOUT);
    // Not allowed to PING, and yet connected.
    let bob = pool.connect(&server.url("bob:pw@", "")).await.unwrap();
    assert_eq!(bob.get("mine").await, Ok(None));
    assert!(matches!(bob.get("other").await, Err(RedisError::Denied(_))));
    assert!(matches!(
        bob.set("mine", Vec::new(), None).await,
        Err(RedisError::Denied(_))
    ));
    assert!(matches!(
        listen(&bob).await.unwrap().next().await,
        Ok(Heard::Refused(_))
    ));
}

#[tokio::test]
async fn a_database_that_is_not_there_is_invalid() {
    let server = Server::start(&["--databases", "4"]);
    let error = pool(TIMEOUT)
        .connect(&server.url("", "/4"))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, RedisError::Invalid(text) if text.contains("database 4")),
        "{error}"
    );
}

#[tokio::test]
async fn a_server_that_knows_the_older_protocol_alone_will_do() {
    let server = Server::start(&["--rename-command", "HELLO", "", "--requirepass", "hunter2"]);
    let pool = pool(TIMEOUT);
    let client = pool.connect(&server.url(":hunter2@", "/2")).await.unwrap();
    client.set("k", bytes("v"), None).await.unwrap();
    client.sadd("s", vec![bytes("a")]).await.unwrap();
    assert_eq!(client.smembers("s").await.unwrap(), [bytes("a")]);
    let mut subscription = listening(&client).await;
    client.publish("c", bytes("hi")).await.unwrap();
    assert_eq!(subscription.next().await, Ok(message("hi")));
    let error = pool.connect(&server.url(":wrong@", "")).await.unwrap_err();
    assert!(matches!(error, RedisError::Denied(_)), "{error}");
}

#[tokio::test]
async fn what_cannot_be_reached_is_unavailable() {
    let pool = pool(SHORT);
    let refused = RedisUrl::parse(&format!("redis://127.0.0.1:{}", free_port())).unwrap();
    let error = pool.connect(&refused).await.unwrap_err();
    assert!(
        matches!(&error, RedisError::Unavailable(text) if text.contains("refused")),
        "{error}"
    );
    let nowhere = RedisUrl::parse("redis://nowhere.invalid").unwrap();
    let error = pool.connect(&nowhere).await.unwrap_err();
    assert!(
        matches!(&error, RedisError::Unavailable(text) if text.contains("nowhere.invalid:6379")),
        "{error}"
    );

    // One that takes connections and says nothing.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = mute.local_addr().unwrap();
    let error = pool
        .connect(&RedisUrl::parse(&format!("redis://{address}")).unwrap())
        .await
        .unwrap_err();
    assert!(
        matches!(&error, RedisError::Unavailable(text) if text.contains("within")),
        "{error}"
    );
    assert!(pool.links.lock().is_empty());
}

#[tokio::test]
async fn an_attempt_that_failed_when_nobody_waited_any_more_is_not_remembered() {
    let mut server = Server::start(&[]);
    server.kill();
    let (pool, url) = (pool(TIMEOUT), server.url("", ""));
    assert!(pool.connect(&url).now_or_never().is_none());
    let link = pool.links.lock().get(&url).cloned().unwrap();
    until("the attempt has failed", || async { link.has_failed() }).await;
    server.restart();
    pool.connect(&url).await.unwrap();
}

#[tokio::test]
async fn tls_with_a_private_authority_and_a_password() {
    let certificates = Certificates::make();
    let server = certificates.server(&["--requirepass", "hunter2"]);
    let url = |host: &str, login: &str| {
        RedisUrl::parse(&format!("rediss://{login}{host}:{}", server.port())).unwrap()
    };
    let trusting = RedisPool::new(Settings {
        ca_file: Some(certificates.authority()),
        timeout: TIMEOUT,
    })
    .unwrap();
    for host in ["localhost", "127.0.0.1"] {
        let client = trusting.connect(&url(host, ":hunter2@")).await.unwrap();
        client.set("k", vec![b'x'; 1 << 20], None).await.unwrap();
        assert_eq!(client.get("k").await.unwrap().unwrap().len(), 1 << 20);
        let mut subscription = listening(&client).await;
        assert_eq!(client.publish("c", bytes("hi")).await, Ok(1));
        assert_eq!(subscription.next().await, Ok(message("hi")));
    }
    let error = trusting
        .connect(&url("localhost", ":wrong@"))
        .await
        .unwrap_err();
    assert!(matches!(error, RedisError::Denied(_)), "{error}");

    let error = pool(TIMEOUT)
        .connect(&url("localhost", ":hunter2@"))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, RedisError::Unavailable(text) if text.contains("`redis.ca-file`")),
        "{error}"
    );
    let error = trusting
        .connect(&url("127.0.0.2", ":hunter2@"))
        .await
        .unwrap_err();
    assert!(matches!(&error, RedisError::Unavailable(_)), "{error}");
    // The wrong one of the two, in both directions.
    let error = trusting.connect(&server.url("", "")).await.unwrap_err();
    assert!(
        matches!(&error, RedisError::Unavailable(text) if text.contains("rediss://")),
        "{error}"
    );
    let plain = Server::start(&[]);
    let url = RedisUrl::parse(&format!("rediss://localhost:{}", plain.port())).unwrap();
    let error = pool(SHORT).connect(&url).await.unwrap_err();
    assert!(
        matches!(&error, RedisError::Unavailable(text) if text.contains("TLS")),
        "{error}"
    );
}

#[tokio::test]
async fn a_connection_that_breaks_is_made_anew_and_commands_fail_fast_meanwhile() {
    let mut server = Server::start(&[]);
    let pool = pool(TIMEOUT);
    let url = server.url("", "");
    let client = pool.connect(&url).await.unwrap();
    server.kill();
    until("commands fail", || async { client.get("k").await.is_err() }).await;
    for _ in 0..100 {
        let started = Instant::now();
        assert!(matches!(
            client.get("k").await,
            Err(RedisError::Unavailable(_))
        ));
        assert!(matches!(
            pool.connect(&url).await,
            Err(RedisError::Unavailable(_))
        ));
        assert!(started.elapsed() < TIMEOUT / 4);
    }
    server.restart();
    until("commands succeed", || async {
        client.get("k").await.is_ok()
    })
    .await;
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_server_that_stands_still_is_noticed() {
    let server = Server::start(&[]);
    let client = pool(LONGER).connect(&server.url("", "")).await.unwrap();
    let mut subscription = listening(&client).await;
    server.freeze(true);
    let error = client.get("k").await.unwrap_err();
    assert!(
        matches!(&error, RedisError::Unavailable(text) if text.contains("within")),
        "{error}"
    );
    until("the connection is given up", || async {
        client.check_up().is_err()
    })
    .await;
    assert!(subscription.next().await.is_err());
    server.freeze(false);
    until("commands succeed", || async {
        client.get("k").await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn a_quiet_connection_is_kept() {
    // It closes connections that were quiet for so many seconds.
    let server = Server::start(&["--timeout", "6"]);
    let client = pool(LONGER).connect(&server.url("", "")).await.unwrap();
    let mut subscription = listening(&client).await;
    let heard = tokio::spawn(async move { subscription.next().await });
    let first = server.ours();
    assert_eq!(first.len(), 2);
    until("both connections are old", || async {
        let now = server.ours();
        let ids = now.iter().map(|one| &one.0);
        assert!(ids.eq(first.iter().map(|one| &one.0)), "{now:?}");
        now.iter().all(|(_, age)| *age > 8)
    })
    .await;
    assert_eq!(client.publish("c", bytes("hi")).await, Ok(1));
    assert_eq!(heard.await.unwrap(), Ok(message("hi")));
}

#[tokio::test]
async fn the_pool_is_bounded_and_makes_room_for_those_who_need_it() {
    let server = Server::start(&["--databases", "300"]);
    let pool = pool(TIMEOUT);
    let mut clients = Vec::new();
    for database in 0..CONNECTIONS {
        clients.push(
            pool.connect(&server.url("", &format!("/{database}")))
                .await
                .unwrap(),
        );
    }
    let next = server.url("", "/299");
    assert!(matches!(
        pool.connect(&next).await,
        Err(RedisError::Limited(_))
    ));
    clients.pop();
    pool.connect(&next).await.unwrap();
    clients[0].get("k").await.unwrap();
}

/// A connection that has asked to hear the channel `c`.
async fn listen(client: &RedisClient) -> Result<Push, RedisError> {
    let mut push = client.push().await?;
    push.subscribe(&["c".to_owned()]).await?;
    Ok(push)
}

/// A connection that hears the channel `c`.
async fn listening(client: &RedisClient) -> Push {
    let mut push = listen(client).await.unwrap();
    assert_eq!(push.next().await, Ok(Heard::Subscribed(bytes("c"))));
    push
}

fn message(text: &str) -> Heard {
    Heard::Message {
        channel: bytes("c"),
        payload: bytes(text),
    }
}
