//! How often and how long: what counts together, and who must leave time for whom.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use bytecode_image::pull::{PullError, PullPolicy};
use bytecode_image::registry::{MAX_ATTEMPTS, MAX_SLOW_CONNECTIONS, Patience};

use crate::host::{Host, serving};
use crate::images::{Parts, TestStore, blob_path, chain, reference, serve};
use crate::patience::patiently;
use crate::server::{Answer, Registry};

#[test]
fn a_blob_is_asked_for_as_often_as_anything() {
    let image = Parts::new("pass").image();
    let layer = &image.layers[0].1;
    let path = blob_path(layer);
    let broken = Answer {
        announced: Some(layer.len() as u64),
        ..Answer::ok(&layer[..30])
    };
    let nothing = Answer {
        announced: Some(layer.len() as u64 - 30),
        status: 206,
        ..Answer::default()
    };
    let nothing = nothing.header(
        "Content-Range",
        format!("bytes 30-{}/{}", layer.len() - 1, layer.len()),
    );
    let reset = || Answer::default().reset();
    let cases = [
        ("before an answer", vec![]),
        ("in the middle, and before", vec![broken.clone(), nothing]),
        ("500, then resets", vec![Answer::status(500), broken]),
    ];
    for (what, answers) in cases {
        let registry = Registry::start();
        serve(&registry, &image, &["v1"]);
        registry.first("GET", &path, answers);
        registry.route("GET", &path, reset());
        let name = reference(&registry, ":v1");
        let (pulled, due) = patiently(&TestStore::new(), &name, Patience::default());
        let error = chain(&pulled.unwrap_err());
        assert!(error.contains("the transfer broke off"), "{what}: {error}");
        let asked = registry.asked();
        let asked = asked.iter().filter(|asked| asked.path == path).count();
        assert_eq!(asked as u32, MAX_ATTEMPTS, "{what}");
        assert_eq!(due.len() as u32, MAX_ATTEMPTS - 1, "{what}");
    }
}

#[test]
fn a_blob_whose_end_alone_was_lost_is_whole() {
    let image = Parts::new("pass").image();
    let layer = &image.layers[0].1;
    let path = blob_path(layer);
    let registry = Registry::start();
    serve(&registry, &image, &["v1"]);
    // One chunk, and not the empty one that ends a body.
    let mut body = format!("{:x}\r\n", layer.len()).into_bytes();
    body.extend_from_slice(layer);
    body.extend_from_slice(b"\r\n");
    let answer = Answer {
        repeated: Some(1),
        ..Answer::ok(body)
    };
    let answer = answer.header("Transfer-Encoding", "chunked");
    registry.first("GET", &path, vec![answer]);
    registry.route("GET", &path, Answer::status(416));
    let store = TestStore::new();
    let (pulled, due) = patiently(&store, &reference(&registry, ":v1"), Patience::default());
    pulled.unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!(due, []);
    store.check();
}

/// A pause that would outlast the deadline is not made: what the registry said is told at once.
#[test]
fn what_the_registry_said_is_told_when_the_time_is_not_enough() {
    let image = Parts::new("pass").image();
    let layer = blob_path(&image.layers[0].1);
    let later = Answer::status(429).header("Retry-After", "30");
    for path in ["/v2/acme/xdp/manifests/v1", &layer] {
        let registry = Registry::start();
        serve(&registry, &image, &["v1"]);
        registry.route("GET", path, later.clone());
        let patience = Patience {
            deadline: Duration::from_secs(29),
            ..Patience::default()
        };
        let name = reference(&registry, ":v1");
        let (pulled, due) = patiently(&TestStore::new(), &name, patience);
        let error = chain(&pulled.unwrap_err());
        assert!(error.contains("HTTP status 429"), "{error}");
        assert_eq!(due, [], "{path}");
    }
}

/// A mirror that takes connections and says nothing leaves time for the registry.
#[test]
fn a_silent_mirror_is_passed_over_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let registry = serving();
    let host = Host::new();
    host.registries(&format!(
        "[[registry]]\nprefix = 'quay.example/acme'\nlocation = '{}/acme'\n\
         [[registry.mirror]]\nlocation = '{}/acme'\n",
        registry.address,
        silent.local_addr().unwrap()
    ));
    let reach = host.reach().with_patience(Patience {
        deadline: Duration::from_secs(6),
        ..Patience::default()
    });
    let pulled = host.pull("quay.example/acme/xdp:v1", PullPolicy::Always, reach);
    pulled.unwrap_or_else(|error| panic!("{}", chain(&error)));
    host.store.check();
}

#[test]
fn a_helper_that_hangs_does_not_hold_up_the_end() {
    let registry = serving();
    registry.need(
        "Basic dXNlcjpzM2NyM3Q=",
        Answer::status(401).header("WWW-Authenticate", "Basic realm=x"),
    );
    let host = Host::new();
    let helper = host.root.path().join("bin/docker-credential-hangs");
    host.file(
        "bin/docker-credential-hangs",
        // Until the test has ended, and its folder is gone.
        "#!/bin/sh\nwhile [ -e \"$0\" ]; do sleep 0.2; done\n",
    );
    std::fs::set_permissions(&helper, PermissionsExt::from_mode(0o755)).unwrap();
    host.file(
        "home/.docker/config.json",
        &format!(r#"{{"credHelpers":{{"{}":"hangs"}}}}"#, registry.address),
    );
    let patience = Patience {
        deadline: Duration::from_secs(1),
        ..Patience::default()
    };
    let path = format!(
        "{}:{}",
        helper.parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let mut environment = host.environment();
    environment.path = Some(path.into());
    let reach = host
        .reach()
        .with_environment(environment)
        .with_patience(patience);
    let name = format!("{}/acme/xdp:v1", registry.address);
    let pulled = host.pull(&name, PullPolicy::Always, reach);
    assert!(
        matches!(&pulled, Err(PullError::Deadline { .. })),
        "{pulled:?}"
    );
}

/// Copies what comes from one side to the other until it ends.
fn pass_on(mut from: TcpStream, mut to: TcpStream) {
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
}

/// A server before the registry that passes on plain http, and says nothing to TLS. Gives its address, and the
/// connections that it would hold, in the order in which they and the others came.
fn deaf_to_tls(registry: &Registry) -> (SocketAddr, Receiver<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (holds, held) = mpsc::channel();
    let behind = registry.address;
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut first = [0];
            let Ok(1) = stream.read(&mut first) else {
                continue;
            };
            // The first byte of a TLS handshake record.
            if first == [0x16] {
                holds.send(stream).unwrap();
                continue;
            }
            let mut registry = TcpStream::connect(behind).unwrap();
            registry.write_all(&first).unwrap();
            pass_on(registry.try_clone().unwrap(), stream.try_clone().unwrap());
            pass_on(stream, registry);
        }
    });
    (address, held)
}

#[test]
fn a_connection_that_takes_too_long_is_none() {
    let registry = serving();
    let (address, held) = deaf_to_tls(&registry);
    let host = Host::new();
    // An address of this machine that is not a loopback one by its name.
    let place = format!("0.0.0.0:{}", address.port());
    let patience = Patience {
        connect: Duration::from_millis(200),
        pauses: Some(Arc::new(|_| Duration::ZERO)),
        ..Patience::default()
    };
    let name = format!("{place}/acme/xdp:v1");
    let attempts = MAX_SLOW_CONNECTIONS as usize;
    let pull = || {
        let reach = host.reach().with_patience(patience.clone());
        host.pull(&name, PullPolicy::Always, reach)
    };
    let error = chain(&pull().unwrap_err());
    assert!(error.contains("no connection to the registry"), "{error}");
    let mut open: Vec<_> = held.iter().take(attempts).collect();

    // Where plain http is allowed it is asked for then, after one connection.
    host.registries(&format!(
        "[[registry]]\nlocation = '{place}'\ninsecure = true\n"
    ));
    pull().unwrap_or_else(|error| panic!("{}", chain(&error)));
    open.extend(held.try_iter());
    assert_eq!(open.len(), attempts + 1);
}
