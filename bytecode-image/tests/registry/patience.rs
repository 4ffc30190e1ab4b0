//! What is tried again, what is taken up where it broke, and what is not.

use std::io::Read;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytecode_image::pull::{BytecodeImage, PullError, PullPolicy, PullRequest, Trust, pull};
use bytecode_image::reference::Reference;
use bytecode_image::registry::{CONNECT_TIMEOUT, MAX_ATTEMPTS, PULL_DEADLINE, Patience, Reach};

use crate::images::{MANIFEST, Parts, TestStore, blob_path, chain, platform, reference, serve};
use crate::server::{Answer, Registry};

/// Pulls, and tells which pauses were due.
pub(crate) fn patiently(
    store: &TestStore,
    name: &Reference,
    patience: Patience,
) -> (Result<BytecodeImage, PullError>, Vec<Duration>) {
    let due = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&due);
    let pauses = move |pause| {
        told.lock().unwrap().push(pause);
        Duration::ZERO
    };
    let reach = Reach::default().with_patience(Patience {
        pauses: Some(Arc::new(pauses)),
        ..patience
    });
    let request = PullRequest {
        reference: name.clone(),
        short: None,
        policy: PullPolicy::Always,
        reach,
        platform: platform(),
        trust: Trust::unchecked().into(),
    };
    let pulled = pull(&store.store, &request, &());
    let due = due.lock().unwrap().clone();
    (pulled, due)
}

#[test]
fn a_registry_that_recovers() {
    let image = Parts::new("pass").image();
    let manifest = "/v2/acme/xdp/manifests/v1";
    let layer = blob_path(&image.layers[0].1);
    let later = |status, wait: &str| Answer::status(status).header("Retry-After", wait);
    let cases: Vec<(&str, &str, Vec<Answer>, Vec<u64>)> = vec![
        (
            "500 twice",
            manifest,
            vec![Answer::status(500), Answer::status(500)],
            vec![],
        ),
        ("429", &layer, vec![later(429, "7")], vec![7]),
        (
            "503 twice",
            &layer,
            vec![later(503, "30"), later(503, "1")],
            vec![30, 1],
        ),
        ("a reset", manifest, vec![Answer::default().reset()], vec![]),
    ];
    for (what, path, answers, waits) in cases {
        let registry = Registry::start();
        serve(&registry, &image, &["v1"]);
        let times = answers.len();
        registry.first("GET", path, answers);
        let store = TestStore::new();
        let (pulled, due) = patiently(&store, &reference(&registry, ":v1"), Patience::default());
        pulled.unwrap_or_else(|error| panic!("{what}: {}", chain(&error)));
        assert_eq!(due.len(), times, "{what}");
        if !waits.is_empty() {
            let waits: Vec<_> = waits.into_iter().map(Duration::from_secs).collect();
            assert_eq!(due, waits, "{what}");
        }
        let asked = registry.asked_lines();
        let asked = asked.iter().filter(|line| line.ends_with(path)).count();
        assert_eq!(asked, times + 1, "{what}");
        store.check();
    }
}

#[test]
fn a_registry_that_does_not() {
    let image = Parts::new("pass").image();
    let manifest = "/v2/acme/xdp/manifests/v1";
    let attempts = MAX_ATTEMPTS as usize;
    let cases: Vec<(Answer, usize, &str)> = vec![
        (Answer::status(500), attempts, "HTTP status 500"),
        (Answer::status(429), attempts, "HTTP status 429"),
        // One that wants to be left alone longer than anybody waits is asked once.
        (
            Answer::status(429).header("Retry-After", "31"),
            1,
            "HTTP status 429",
        ),
        (Answer::status(501), 1, "HTTP status 501"),
        (Answer::status(404), 1, "not found"),
        (Answer::status(403), 1, "access denied"),
        (
            Answer::default().reset(),
            attempts,
            "the transfer broke off",
        ),
    ];
    for (answer, times, expected) in cases {
        let registry = Registry::start();
        serve(&registry, &image, &["v1"]);
        registry.route("GET", manifest, answer);
        let store = TestStore::new();
        let (pulled, due) = patiently(&store, &reference(&registry, ":v1"), Patience::default());
        let error = chain(&pulled.unwrap_err());
        assert!(error.contains(expected), "{error}");
        assert_eq!(registry.asked().len(), times, "{expected}");
        assert_eq!(due.len(), times - 1, "{expected}");
    }
}

#[test]
fn nobody_there_is_tried_again_too() {
    let registry = Registry::start();
    let name = reference(&registry, ":v1");
    drop(registry);
    let (pulled, due) = patiently(&TestStore::new(), &name, Patience::default());
    let error = chain(&pulled.unwrap_err());
    assert!(error.contains("no connection to the registry"), "{error}");
    assert_eq!(due.len() as u32, MAX_ATTEMPTS - 1);
}

#[test]
fn a_blob_that_breaks_off_is_taken_up_where_it_broke() {
    let image = Parts::new("pass").image();
    let layer = image.layers[0].1.clone();
    let path = blob_path(&layer);
    let broken = |bytes: &[u8]| Answer {
        announced: Some(layer.len() as u64),
        ..Answer::ok(bytes)
    };
    let rest = |from: usize, range: &str| {
        let mut answer = Answer::ok(&layer[from..]);
        answer.status = 206;
        answer.header("Content-Range", range)
    };
    let end = layer.len() - 1;
    let right = format!("bytes 30-{end}/{}", layer.len());
    let wrong = format!("bytes 31-{end}/{}", layer.len());
    let mut spoiled = layer.clone();
    spoiled[40] ^= 1;
    let cases: Vec<(&str, Vec<Answer>, Result<(), &str>)> = vec![
        (
            "ranges",
            vec![broken(&layer[..30]), rest(30, &right)],
            Ok(()),
        ),
        // A server without ranges sends all of it again.
        (
            "no ranges",
            vec![broken(&layer[..30]), broken(&layer)],
            Ok(()),
        ),
        (
            "other bytes the second time",
            vec![broken(&layer[..30]), broken(&spoiled)],
            Err("wrong digest"),
        ),
        (
            "a part that was not asked for",
            vec![broken(&layer[..30]), rest(31, &wrong)],
            Err("no usable Content-Range"),
        ),
        (
            "a part that is too short",
            vec![broken(&layer[..30]), rest(31, &right)],
            Err("wrong length"),
        ),
    ];
    for (what, answers, expected) in cases {
        let registry = Registry::start();
        serve(&registry, &image, &["v1"]);
        registry.first("GET", &path, answers);
        let store = TestStore::new();
        let (pulled, due) = patiently(&store, &reference(&registry, ":v1"), Patience::default());
        assert_eq!(due.len(), 1, "{what}");
        let ranges: Vec<_> = registry
            .asked()
            .into_iter()
            .filter(|asked| asked.path == path)
            .map(|asked| asked.range)
            .collect();
        assert_eq!(ranges, [None, Some("bytes=30-".to_owned())], "{what}");
        match (pulled, expected) {
            (Ok(_), Ok(())) => store.check(),
            (Err(error), Err(text)) => {
                let error = chain(&error);
                assert!(error.contains(text), "{what}: {error}");
                assert_eq!(store.files(), Vec::<String>::new(), "{what}");
            }
            (pulled, _) => panic!("{what}: {pulled:?}"),
        }
    }
}

/// A server that takes a connection and says nothing: the silence ends the pull, once, and so does the deadline.
#[test]
fn silence_ends_a_pull() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let name: Reference = format!("{}/acme/xdp", silent.local_addr().unwrap())
        .parse()
        .unwrap();
    let thread = std::thread::spawn(move || {
        // A pull, its question whether TLS is spoken, and another pull; each goes away.
        for _ in 0..3 {
            let (mut stream, _) = silent.accept().unwrap();
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    let short = Duration::from_millis(50);
    let store = TestStore::new();
    let patience = Patience {
        read: short,
        ..Patience::default()
    };
    let (pulled, due) = patiently(&store, &name, patience);
    let error = chain(&pulled.unwrap_err());
    assert!(error.contains("did not answer in time"), "{error}");
    assert_eq!(due.len(), 0);

    let patience = Patience {
        deadline: short,
        ..Patience::default()
    };
    let (pulled, _) = patiently(&store, &name, patience);
    assert!(
        matches!(&pulled, Err(PullError::Deadline { .. })),
        "{pulled:?}"
    );
    thread.join().unwrap();
    assert!(!store.store.dir().exists());
}

/// A body that comes a byte at a time is never silent for long: the deadline of the whole pull ends it.
#[test]
fn a_trickle_ends_with_the_deadline() {
    let registry = Registry::start();
    let image = Parts::new("pass").image();
    serve(&registry, &image, &["v1"]);
    let layer = &image.layers[0].1;
    let manifest = "/v2/acme/xdp/manifests/v1".to_owned();
    for (path, body) in [(&blob_path(layer), layer), (&manifest, &image.manifest)] {
        serve(&registry, &image, &["v1"]);
        let trickle = Answer {
            trickle: Some(Duration::from_millis(20)),
            ..Answer::ok(body.clone()).header("Content-Type", MANIFEST)
        };
        registry.route("GET", path, trickle);
        let store = TestStore::new();
        let patience = Patience {
            read: Duration::from_secs(5),
            deadline: Duration::from_millis(500),
            ..Patience::default()
        };
        let (pulled, _) = patiently(&store, &reference(&registry, ":v1"), patience);
        assert!(
            matches!(&pulled, Err(PullError::Deadline { .. })),
            "{path}: {pulled:?}"
        );
        assert_eq!(store.files(), Vec::<String>::new(), "{path}");
    }
}

/// Whoever waits 90 s for the command hears why it failed: what is left is for the store and the words.
#[test]
fn no_pull_takes_ninety_seconds() {
    assert!(PULL_DEADLINE + CONNECT_TIMEOUT <= Duration::from_secs(90));
    let patience = Patience::default();
    assert_eq!(patience.deadline, PULL_DEADLINE);
    assert!(patience.read < PULL_DEADLINE && patience.connect < patience.read);
}
