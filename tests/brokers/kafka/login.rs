//! Logging in, and TLS.

use super::*;

#[test]
fn a_user_with_a_wrong_password_is_denied_and_it_is_not_shown() {
    nodes::run(async {
        let mut kit = Server::own(Options {
            password: Some("right"),
            ..Options::default()
        });
        let node = Node::start(&kit, "log").await;
        let mut client = node.client(None, &["news"]).await;
        node.publish("news", "0").await.unwrap();
        assert_eq!(client.data(1).await, ["0"]);

        kit.password = Some("hush-hush".into());
        let begun = std::time::Instant::now();
        let node = Node::new(&kit, "log", RETENTION);
        let error = node.feed.start().await.unwrap_err();
        assert!(matches!(error, BrokerError::Denied(_)), "{error}");
        assert!(begun.elapsed() < 3 * TIMEOUT, "{:?}", begun.elapsed());
        let shown = [error.to_string(), format!("{:?}", kit.settings())];
        for text in &shown {
            assert!(text.contains(&kit.server().address()), "{text}");
            assert!(!text.contains("hush-hush"), "{text}");
        }
    });
}

#[test]
fn a_user_may_log_in_by_scram() {
    nodes::run(async {
        let mut kit = Server::own(Options {
            password: Some("right"),
            scram: true,
            ..Options::default()
        });
        for mechanism in [Mechanism::ScramSha256, Mechanism::ScramSha512] {
            kit.mechanism = mechanism;
            kit.password = Some("right".into());
            let node = Node::start(&kit, "log").await;
            let mut client = node.client(None, &["news"]).await;
            node.publish("news", "0").await.unwrap();
            assert_eq!(client.data(1).await, ["0"]);

            kit.password = Some("hush-hush".into());
            let node = Node::new(&kit, "log", RETENTION);
            let error = node.feed.start().await.unwrap_err();
            assert!(matches!(error, BrokerError::Denied(_)), "{error}");
            assert!(!error.to_string().contains("hush-hush"), "{error}");
        }
        kit.mechanism = Mechanism::Plain;
        let node = Node::new(&kit, "log", RETENTION);
        let error = node.feed.start().await.unwrap_err();
        assert!(matches!(error, BrokerError::Denied(_)), "{error}");
    });
}

#[test]
fn events_are_carried_over_tls_and_only_by_who_is_trusted() {
    nodes::run(async {
        let certificates = Certificates::new();
        let mut kit = Server::own(Options {
            tls: Some(&certificates),
            password: Some("right"),
            ..Options::default()
        });
        kit.tls = Some(Tls {
            ca_file: Some(certificates.authority()),
        });
        let node = Node::start(&kit, "log").await;
        let mut client = node.client(None, &["news"]).await;
        node.publish("news", "0").await.unwrap();
        assert_eq!(client.data(1).await, ["0"]);

        let stranger = Certificates::new();
        kit.tls = Some(kafka::Tls {
            ca_file: Some(stranger.authority()),
        });
        let node = Node::new(&kit, "log", RETENTION);
        let error = node.feed.start().await.unwrap_err();
        assert!(matches!(error, BrokerError::Unavailable(_)), "{error}");
        assert!(error.to_string().contains("certificate"), "{error}");
    });
}
