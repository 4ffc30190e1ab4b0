//! A registry that wants to fill this host's memory: the real binary stays small and says what is wrong.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use bpfman_tests::cli::Bpfman;
use bpfman_tests::faulty::{Answer, Registry};
use bpfman_tests::images::{digest, goarch, gzip_of_zeros, tar_head};
use bpfman_tests::layout::snapshot;
use serde_json::{Value, json};

/// Most memory of a pull, whatever comes, in KiB.
const MOST_KIB: u64 = 64 << 10;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// 300 times a megabyte of these bytes, with no length said before.
fn endless(byte: u8) -> Answer {
    Answer {
        repeated: Some(300),
        ..Answer::ok(vec![byte; 1 << 20])
    }
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": digest(bytes), "size": bytes.len() })
}

fn blob_path(bytes: &[u8]) -> String {
    format!("/v2/acme/xdp/blobs/{}", digest(bytes))
}

/// Serves a document as `:v1`.
fn document(registry: &Registry, media_type: &str, bytes: Vec<u8>) {
    let answer = Answer::ok(bytes).header("Content-Type", media_type);
    registry.route("GET", "/v2/acme/xdp/manifests/v1", answer);
}

/// Serves an image as `:v1`, its configuration and its layer.
fn image(registry: &Registry, config: &[u8], layer: &[u8]) {
    registry.route("GET", &blob_path(config), Answer::ok(config));
    registry.route("GET", &blob_path(layer), Answer::ok(layer));
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, config),
        "layers": [descriptor(LAYER, layer)],
    });
    document(registry, MANIFEST, manifest.to_string().into_bytes());
}

/// As many copies of a JSON value as a list of four megabytes takes.
fn many(value: &str) -> String {
    let copies = ((4 << 20) - 1024) / (value.len() + 1);
    format!("[{}]", vec![value; copies].join(","))
}

#[test]
fn memory_stays_below_64_mib() {
    let config = json!({
        "architecture": goarch(),
        "os": "linux",
        "config": { "Labels": { "io.ebpf.programs": "{\"pass\":\"xdp\"}", "io.ebpf.maps": "{}" } },
    });
    let config = config.to_string().into_bytes();
    // 15 MiB of an object that is none and as much as a bomb likes after it; an object that claims to have 300 MiB.
    let bombs = [
        gzip_of_zeros(100, &tar_head("pass.o", 15 << 20)),
        gzip_of_zeros(20, &tar_head("pass.o", 300 << 20)),
    ];
    let small = b"no layer at all".to_vec();
    type Harm = Box<dyn Fn(&Registry)>;
    let cases: Vec<(&str, Harm, &str)> = vec![
        (
            "a manifest of 300 MiB",
            Box::new(|registry| {
                registry.route("GET", "/v2/acme/xdp/manifests/v1", endless(b' '));
            }),
            "more than 4194304 bytes",
        ),
        (
            "a configuration of 300 MiB",
            Box::new({
                let (config, small) = (config.clone(), small.clone());
                move |registry| {
                    image(registry, &config, &small);
                    registry.route("GET", &blob_path(&config), endless(b' '));
                }
            }),
            "wrong length",
        ),
        (
            "a layer of 300 MiB",
            Box::new({
                let (config, small) = (config.clone(), small.clone());
                move |registry| {
                    image(registry, &config, &small);
                    registry.route("GET", &blob_path(&small), endless(0));
                }
            }),
            "wrong length",
        ),
        (
            "a layer that unpacks to more than may be unpacked",
            Box::new({
                let (config, bomb) = (config.clone(), bombs[0].clone());
                move |registry| image(registry, &config, &bomb)
            }),
            "its layer is not one of a bytecode image",
        ),
        (
            "a file of 300 MiB in a layer",
            Box::new({
                let (config, bomb) = (config.clone(), bombs[1].clone());
                move |registry| image(registry, &config, &bomb)
            }),
            "its layer is not one of a bytecode image",
        ),
        (
            "a token of 300 MiB",
            Box::new(|registry| {
                let realm = format!(r#"Bearer realm="http://{}/token""#, registry.address);
                let challenge = Answer::status(401).header("WWW-Authenticate", realm);
                registry.need("Bearer x", challenge);
                registry.route("GET", "/token", endless(b' '));
            }),
            "at most 65536",
        ),
        (
            "an error text of 300 MiB",
            Box::new(|registry| {
                let mut answer = endless(b'x');
                answer.status = 403;
                registry.route("GET", "/v2/acme/xdp/manifests/v1", answer);
            }),
            "access denied",
        ),
        (
            "headers without end",
            Box::new(|registry| {
                let answer = Answer {
                    endless: Some(("X-More".to_owned(), "x".repeat(1 << 10))),
                    ..Answer::status(200)
                };
                registry.route("GET", "/v2/acme/xdp/manifests/v1", answer);
            }),
            "message head is too large",
        ),
        (
            "four megabytes of images in an index",
            Box::new(|registry| {
                let entry = json!({ "mediaType": MANIFEST, "size": 1, "digest": digest(b"") });
                let list = many(&entry.to_string());
                let text = format!(r#"{{"schemaVersion":2,"manifests":{list}}}"#);
                document(registry, INDEX, text.into_bytes());
            }),
            "",
        ),
        (
            "four megabytes of layers",
            Box::new(|registry| {
                let entry = json!({ "mediaType": LAYER, "size": 1, "digest": digest(b"") });
                let (config, list) = (entry.to_string(), many(&entry.to_string()));
                let text = format!(r#"{{"schemaVersion":2,"config":{config},"layers":{list}}}"#);
                document(registry, MANIFEST, text.into_bytes());
            }),
            "layers",
        ),
        (
            "four megabytes of what nobody reads",
            Box::new(|registry| {
                let list = many("{}");
                let text = format!(r#"{{"schemaVersion":2,"annotations":{list},"manifests":[]}}"#);
                document(registry, INDEX, text.into_bytes());
            }),
            "",
        ),
    ];
    for (what, harm, message) in cases {
        let registry = Registry::start();
        harm(&registry);
        let name = format!("{}/acme/xdp:v1", registry.address);
        let bpfman = Bpfman::new();
        let (outcome, peak) = bpfman.measured(&["image", "pull", "-i", &name]);
        let stderr = outcome.failure();
        assert!(stderr.contains(message), "{what}: {stderr}");
        assert!(
            stderr.contains(&registry.address.to_string()),
            "{what}: {stderr}"
        );
        assert!(
            stderr.len() < 8 << 10,
            "{what}: {} bytes of words",
            stderr.len()
        );
        assert!(peak < MOST_KIB, "{what}: {peak} KiB");
        // Locks may be left, and empty folders; nothing that came.
        let mut kept = snapshot(&bpfman.images());
        kept.retain(|_, (_, bytes)| !bytes.is_empty());
        kept.retain(|path, _| !path.ends_with("oci-layout") && !path.ends_with("index.json"));
        assert!(kept.is_empty(), "{what}: kept {:?}", kept.keys());
    }
}
