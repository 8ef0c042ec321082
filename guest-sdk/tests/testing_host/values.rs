//! The registry, Redis and the configuration.

use super::*;

#[test]
fn the_registry_outlives_a_call_and_keeps_kinds_apart() {
    let host = Host::new();
    host.grant_redis("r:6379");
    host.run(|| {
        registry::set("publisher", &Publisher::in_memory())?;
        registry::set("redis", &Redis::connect("redis://r/3")?)?;
        registry::set("text", "t")?;
        registry::set("bytes", &[1u8, 2][..])
    })
    .unwrap();
    host.run(|| {
        assert_eq!(registry::keys(), ["bytes", "publisher", "redis", "text"]);
        registry::get::<Publisher>("publisher")?.start()?;
        Publisher::in_memory().publish("a", "x")?;
        assert_eq!(registry::get::<Redis>("redis")?.address(), "r:6379");
        assert_eq!(registry::get::<String>("text")?, "t");
        assert_eq!(registry::get::<Vec<u8>>("bytes")?, [1, 2]);
        assert_eq!(registry::kind("redis"), Some(registry::Kind::Redis));
        assert_eq!(registry::kind("none"), None);

        assert_error!(
            registry::get::<Publisher>("redis"),
            WrongType,
            "publisher",
            "Redis client"
        );
        assert_error!(
            registry::get::<Redis>("text"),
            WrongType,
            "Redis client",
            "text"
        );
        assert_error!(registry::get::<String>("bytes"), WrongType, "text", "bytes");
        assert_error!(registry::get::<Vec<u8>>("none"), NotFound, "none");
        for bad in ["", "a\nb", &"x".repeat(256)] {
            assert_error!(registry::set(bad, "x"), Invalid);
        }

        registry::set("publisher", &"now a text".to_owned())?;
        assert_eq!(registry::kind("publisher"), Some(registry::Kind::Text));
        assert!(registry::remove("publisher") && !registry::remove("publisher"));
        assert!(!registry::has("publisher"));
        Ok::<(), Error>(())
    })
    .unwrap();
    assert!(
        Host::new().run(registry::keys).is_empty(),
        "each host is a node of its own"
    );
}

#[test]
fn variables() {
    let host = Host::new();
    host.set_config("b", " 7 ").set_config("a", "x, ,y");
    host.run(|| {
        assert_error!(config::require("c"), NotFound, "`c`");
        assert_eq!(config::parse("b")?, Some(7u8));
        assert_error!(config::parse::<u8>("a"), Invalid, "`a`");
        assert_eq!(config::list("a")?, ["x", "y"]);
        assert_eq!(config::all()?[0].0, "a");
        Ok::<(), Error>(())
    })
    .unwrap();
}

#[test]
fn redis_in_memory() {
    let host = Host::new();
    host.grant_redis("r:6379");
    host.run(|| {
        assert_error!(Redis::connect("redis://other"), Denied, "other:6379");
        assert_error!(Redis::connect("http://r"), Invalid);
        let redis = Redis::connect("redis://user:secret@r")?;
        assert!(!format!("{redis:?}").contains("secret"));

        assert_eq!(redis.get("k")?, None);
        redis.set("k", [0xff])?;
        assert_eq!(redis.get("k")?, Some(vec![0xff]));
        assert_error!(redis.get_text("k"), WrongType, "UTF-8");
        assert_error!(redis.incr("k", 1), Other, "not an integer");
        assert_eq!((redis.incr("n", 5)?, redis.incr("n", -7)?), (5, -2));
        redis.set("n", i64::MAX.to_string())?;
        assert_error!(redis.incr("n", 1), Other, "overflow");

        assert_eq!(redis.sadd("s", &["a", "b", "a"])?, 2);
        assert_eq!(redis.smembers("s")?, [b"a", b"b"]);
        assert_error!(redis.get("s"), Other, "WRONGTYPE");
        assert_error!(redis.sadd("k", &["a"]), Other, "WRONGTYPE");
        assert_eq!(redis.srem("s", &["a", "b", "c"])?, 2);
        assert!(!redis.exists("s")?);
        assert_eq!(redis.sadd("s", &[""; 0])?, 0);
        assert!(!redis.exists("s")?);
        assert_eq!(redis.del(&["k", "none"])?, 1);

        redis.set_for("brief", "x", Duration::from_millis(1))?;
        redis.set("longer", "x")?;
        assert!(redis.expire("longer", Duration::from_secs(2))?);
        assert!(!redis.expire("none", Duration::from_secs(2))?);
        assert_error!(redis.set_for("zero", "x", Duration::ZERO), Invalid);
        sleep(Duration::from_secs(1));
        assert!(!redis.exists("brief")? && redis.exists("longer")?);
        sleep(Duration::from_secs(1));
        assert!(!redis.exists("longer")?);

        assert!(
            !Redis::connect("redis://r/1")?.exists("n")?,
            "databases are apart"
        );
        assert_eq!(redis.publish("c", "hello")?, 0);
        Ok::<(), Error>(())
    })
    .unwrap();
    assert_eq!(
        host.published_on_redis(),
        [("c".to_owned(), b"hello".to_vec())]
    );
}

#[test]
fn redis_commands() {
    let host = Host::new();
    host.grant_redis("r:6379");
    let map = Value::Array(vec![
        Value::Bytes(b"k".to_vec()),
        Value::Array(vec![Value::Nil]),
    ]);
    host.answer_redis("hgetall", map.clone());
    host.run(|| {
        let redis = Redis::connect("redis://r")?;
        assert_eq!(redis.execute("ping", &[""; 0])?.as_str(), Some("PONG"));
        assert_eq!(
            redis.execute("SET", &["k", "v"])?,
            Value::Status("OK".to_owned())
        );
        assert_eq!(redis.execute("GET", &["k"])?.as_bytes(), Some(&b"v"[..]));
        assert!(redis.execute("GET", &["none"])?.is_nil());
        assert_eq!(redis.execute("INCRBY", &["n", "3"])?.as_integer(), Some(3));
        assert_eq!(redis.execute("SADD", &["s", "a"])?.as_integer(), Some(1));
        assert_eq!(
            redis
                .execute("SMEMBERS", &["s"])?
                .as_array()
                .map(<[_]>::len),
            Some(1)
        );
        assert_eq!(redis.execute("HGETALL", &["h"])?, map);
        assert_eq!(redis.execute("SCARD", &["s"])?.as_integer(), Some(1));
        assert_error!(redis.execute("subscribe", &["c"]), Denied, "SUBSCRIBE");
        let xread = |words: &[&str]| redis.execute("XREAD", words);
        assert_error!(xread(&["block", "0", "STREAMS", "s", "$"]), Denied, "XREAD");
        assert_error!(xread(&["STREAMS", "BLOCK", "0"]), Other);
        assert_error!(redis.execute("GET k", &[""; 0]), Invalid, "one word");
        assert_error!(redis.execute("FLY", &["away"]), Other, "FLY");
        Ok::<(), Error>(())
    })
    .unwrap();
}
