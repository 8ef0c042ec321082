//! Random schedules, against a model that knows the words of the contract alone.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// One step of a random schedule.
#[derive(Debug, Clone)]
enum Step {
    Open,
    Register(usize, usize),
    Remove(usize, usize),
    Publish(usize),
    Close(usize),
    Drop(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let (client, name) = (0..4usize, 0..3usize);
    prop_oneof![
        Just(Step::Open),
        (client.clone(), name.clone()).prop_map(|(client, name)| Step::Register(client, name)),
        (client.clone(), name.clone()).prop_map(|(client, name)| Step::Remove(client, name)),
        name.prop_map(Step::Publish),
        client.clone().prop_map(Step::Close),
        client.prop_map(Step::Drop),
    ]
}

/// What a connection ought to have heard, by the words of the contract alone.
#[derive(Debug, Default)]
struct Model {
    channels: BTreeSet<usize>,
    heard: Vec<String>,
    open: bool,
}

proptest! {
    #[test]
    fn every_schedule_agrees_with_the_model(steps in proptest::collection::vec(step(), 0..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (hub, space) = hub();
            let names = ["a", "b", "c"].map(channel);
            let mut clients: Vec<(Arc<Connection>, Option<Body>, Model)> = Vec::new();
            let mut published = 0;
            for step in steps {
                match step {
                    Step::Open if clients.len() < 4 => {
                        let (connection, body) = open(&hub, None);
                        clients.push((connection, Some(body), Model { open: true, ..Model::default() }));
                    }
                    Step::Register(client, name) => {
                        let Some((connection, _, model)) = clients.get_mut(client) else { continue };
                        prop_assert_eq!(space.register(connection, &names[name]).is_ok(), model.open);
                        if model.open {
                            model.channels.insert(name);
                        }
                    }
                    Step::Remove(client, name) => {
                        let Some((connection, _, model)) = clients.get_mut(client) else { continue };
                        let known = model.channels.remove(&name);
                        prop_assert_eq!(space.remove(&connection.id().to_string(), &names[name]).is_ok(), known);
                        model.open &= !(known && model.channels.is_empty());
                    }
                    Step::Publish(name) => {
                        let data = published.to_string();
                        published += 1;
                        let delivered = space.publish(&names[name], &text(&data)).delivered;
                        let mut expected = 0;
                        for (_, _, model) in &mut clients {
                            if model.channels.contains(&name) {
                                model.heard.push(data.clone());
                                expected += 1;
                            }
                        }
                        prop_assert_eq!(delivered, expected);
                    }
                    Step::Close(client) => {
                        let Some((connection, _, model)) = clients.get_mut(client) else { continue };
                        hub.close(connection, CloseReason::Closed);
                        model.open = false;
                        model.channels.clear();
                    }
                    Step::Drop(client) => {
                        let Some((_, body, model)) = clients.get_mut(client) else { continue };
                        *body = None;
                        settle(&hub).await;
                        model.open = false;
                        model.channels.clear();
                    }
                    Step::Open => {}
                }
            }
            for (connection, body, model) in &mut clients {
                prop_assert_eq!(connection.is_open(), model.open);
                if let Some(body) = body {
                    prop_assert_eq!(heard(connection, body).await, std::mem::take(&mut model.heard));
                }
            }
            Ok(())
        })?;
    }

    #[test]
    fn wherever_a_client_leaves_it_misses_nothing(
        left in 0..40usize,
        names in proptest::collection::vec(0..3usize, 40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (hub, space) = hub();
            let channels = ["a", "b", "c"].map(channel);
            let ids: Vec<_> = names.iter().enumerate()
                .map(|(number, name)| space.publish(&channels[*name], &text(&number.to_string())).id)
                .collect();
            let (connection, mut body) = open(&hub, Some(&ids[left]));
            for channel in &channels {
                space.register(&connection, channel).unwrap();
            }
            let missed = numbers(left as u32 + 1..40);
            prop_assert_eq!(heard(&connection, &mut body).await, missed);
            Ok(())
        })?;
    }
}
