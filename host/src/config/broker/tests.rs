//! Brokers in the file.

use super::*;
use crate::config::Config;

#[test]
fn servers_are_one_or_found_by_sentinels_or_a_cluster() {
    let parse = |keys: &str| {
        let text = format!(
            "[brokers.main]\ntype = \"redis\"\nurl = \"redis://h\"\nsync-channel = \"s\"\n{keys}"
        );
        Config::parse(&text, "fanfare.toml".as_ref(), &|_| None)
    };
    for (keys, cluster) in [
        ("sentinel = \"main\"\nothers = [\"h2:26379\"]", false),
        ("cluster = true\nothers = [\"h2:7001\", \"h3:7002\"]", true),
    ] {
        let config = parse(keys).unwrap();
        let Broker::Redis {
            url,
            sentinel,
            cluster: told,
            others,
            ..
        } = &config.brokers["main"]
        else {
            panic!("another type");
        };
        let url = redis_url(url, sentinel.as_deref(), *told, others).unwrap();
        assert_eq!(url.servers().are_cluster(), cluster);
    }
    for (keys, place) in [
        ("sentinel = \"main\"\ncluster = true", "cluster"),
        ("others = [\"h2:1\"]", "others"),
        ("sentinel = \"\"", "sentinel"),
    ] {
        let error = parse(keys).unwrap_err().to_string();
        assert!(error.contains(place), "{error}");
    }
}

#[test]
fn every_type_has_its_keys_and_no_others() {
    let parse = |keys: &str| {
        let text = format!("[node]\ndata = \"d\"\n[brokers.main]\n{keys}");
        Config::parse(&text, "fanfare.toml".as_ref(), &|_| None)
    };
    for keys in [
        "type = \"memory\"",
        "type = \"memory\"\ndurable = \"power\"",
        "type = \"nats\"\nurl = \"nats://h:4222,nats://h2\"\nsync-channel = \"s\"\nreplicas = 3",
        "type = \"postgres\"\nurl = \"postgres://u:p@h/d\"\nsync-channel = \"s\"\ntimeout = \"2s\"",
    ] {
        parse(keys).unwrap();
    }
    for (keys, part) in [
        ("type = \"memory\"\nurl = \"redis://h\"", "`url` is no key"),
        ("type = \"memory\"\ndurable = \"yes\"", "durable"),
        (
            "type = \"nats\"\nurl = \"redis://h\"\nsync-channel = \"s\"",
            "url",
        ),
        (
            "type = \"nats\"\nurl = \"nats://h\"",
            "`sync-channel` is missing",
        ),
        (
            "type = \"nats\"\nurl = \"nats://h\"\nsync-channel = \"s\"\nreplicas = 9",
            "replicas",
        ),
        (
            "type = \"postgres\"\nurl = \"http://h\"\nsync-channel = \"s\"",
            "url",
        ),
        (
            "type = \"postgres\"\nurl = \"postgres://h/d\"\nsync-channel = \"s\"\ntls = true",
            "`tls` is no key",
        ),
        (
            "type = \"kafka\"\nservers = []\nsync-channel = \"s\"",
            "servers",
        ),
        (
            "type = \"kafka\"\nservers = [\"h:9092\"]",
            "`sync-channel` is missing",
        ),
        (
            "type = \"kafka\"\nservers = [\"h:9092\"]\nsync-channel = \"s\"\ntopic = \"t\"",
            "topic",
        ),
        (
            "type = \"kafka\"\nservers = [\"h:9092\"]\ntopic = \"t\"\nuser = \"u\"",
            "password",
        ),
        (
            "type = \"kafka\"\nservers = [\"h:9092\"]\ntopic = \"t\"\npartitions = 0",
            "partitions",
        ),
        (
            "type = \"kafka\"\nservers = [\"h:9092\"]\ntopic = \"t\"\npartitions = 1001",
            "partitions",
        ),
        (
            "type = \"redis\"\nurl = \"redis://h\"\nsync-channel = \"a}b\"",
            "braces",
        ),
    ] {
        let error = parse(keys).unwrap_err().to_string();
        assert!(error.contains(part), "{keys}: {error}");
    }
    let text = "[brokers.main]\ntype = \"memory\"\ndurable = \"process\"";
    let error = Config::parse(text, "fanfare.toml".as_ref(), &|_| None);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("node.data"), "{error}");
}

#[test]
fn the_url_is_read_as_the_pool_reads_it_and_never_shown() {
    let parse = |url: &str| {
        let text =
            format!("[brokers.main]\ntype = \"redis\"\nurl = \"{url}\"\nsync-channel = \"s\"\n");
        Config::parse(&text, "fanfare.toml".as_ref(), &|_| None)
    };
    let config = parse("rediss://user:p%40ss@[::1]:7000/1").unwrap();
    assert!(matches!(config.brokers["main"], Broker::Redis { .. }));
    for url in [
        "",
        "http://:hunter2@host",
        "redis://:hunter2@",
        "redis://:hunter2@host/zero",
    ] {
        let error = parse(url).unwrap_err().to_string();
        assert!(error.starts_with("fanfare.toml:3:"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}
