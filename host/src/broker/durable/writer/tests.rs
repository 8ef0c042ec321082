use std::thread;

use super::{
    super::{
        store::queue,
        testing::{TestFile, publication},
    },
    *,
};

type Answer = oneshot::Receiver<Result<Accepted, BrokerError>>;

fn asked(channel: &str, id: Option<&str>, data: &str) -> (Publication, Answer) {
    let (answer, answered) = oneshot::channel();
    let publication = Publication {
        answer,
        ..publication(channel, id, data)
    };
    (publication, answered)
}

/// A writer that has these publications, and ends when it has answered them.
fn write(file: &TestFile, prepare: &str, publications: Vec<Publication>) {
    let log = file.log(100, Duration::from_secs(600)).log;
    log.connection().execute_batch(prepare).unwrap();
    let (queue, waiting) = queue();
    let listeners = Arc::new(Listeners::new(log.last()));
    let writer = Writer::new(file.path.clone(), log, waiting, listeners.clone());
    let before = listeners.newest();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.build().unwrap().block_on(async {
        for publication in publications {
            assert!(queue.push(publication).await);
        }
    });
    drop(queue);
    thread::spawn(move || writer.run()).join().unwrap();
    assert!(listeners.newest() > before);
}

#[test]
fn a_full_disk_refuses_only_what_does_not_fit() {
    let file = TestFile::new();
    let large = "x".repeat(200_000);
    let (publications, answers): (Vec<_>, Vec<_>) = [
        asked("news", None, "0"),
        asked("news", Some("large"), &large),
        asked("news", Some("1"), "1"),
    ]
    .into_iter()
    .unzip();
    write(&file, "PRAGMA max_page_count = 30", publications);
    let answers: Vec<_> = answers
        .into_iter()
        .map(|answer| answer.blocking_recv().unwrap())
        .collect();
    let (first, last) = (answers[0].clone().unwrap(), answers[2].clone().unwrap());
    assert!(first.position < last.position);
    assert_eq!((first.duplicate, last.id.as_str()), (false, "1"));
    assert!(
        first.id.ends_with(&format!("-{}", first.position)),
        "{}",
        first.id
    );
    let Err(BrokerError::Unavailable(text)) = &answers[1] else {
        panic!("{:?}", answers[1]);
    };
    assert!(
        text.contains(file.to_str().unwrap()) && text.contains("make room"),
        "{text}"
    );
    let mut log = file.log(100, Duration::from_secs(600));
    assert_eq!(log.after("news", 0).0, [first.position, last.position]);
}

#[test]
fn what_nobody_waits_for_is_not_accepted() {
    let file = TestFile::new();
    let (given_up, answer) = asked("news", Some("1"), "given up");
    drop(answer);
    let (publication, answer) = asked("news", Some("1"), "again");
    write(&file, "", vec![given_up, publication]);
    assert!(!answer.blocking_recv().unwrap().unwrap().duplicate);
    let mut log = file.log(100, Duration::from_secs(600));
    assert_eq!(log.rows("events"), 1);
    assert_eq!(log.read("news", 0, 10).events.len(), 1);
}
