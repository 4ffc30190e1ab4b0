//! The signed images of `tests/fixtures/signatures`, pushed byte for byte into a real registry.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::lanes;
use crate::registry::Registry;

/// The folder of the fixtures.
#[must_use]
pub fn folder() -> PathBuf {
    lanes::repository().join("tests/fixtures/signatures")
}

/// Pushes every tag of a fixture into the repository of that name, and gives the digest of `v1`.
///
/// # Panics
///
/// When the fixture cannot be read or the registry does not take it.
#[must_use]
pub fn push(registry: &Registry, name: &str) -> String {
    let layout = folder().join(name);
    let text = std::fs::read(layout.join("index.json")).expect("the fixture has an index");
    let index: Value = serde_json::from_slice(&text).expect("the fixture's index is JSON");
    let mut image = String::new();
    for entry in entries(&index, "manifests") {
        let tag = entry["annotations"]["org.opencontainers.image.ref.name"]
            .as_str()
            .expect("every entry has a tag");
        if tag == "v1" {
            image = digest(&entry);
        }
        push_document(registry, &layout, name, &entry, tag);
    }
    image
}

fn entries(document: &Value, key: &str) -> Vec<Value> {
    document[key].as_array().cloned().unwrap_or_default()
}

fn digest(descriptor: &Value) -> String {
    let digest = descriptor["digest"].as_str();
    digest.expect("a descriptor has a digest").to_owned()
}

/// Pushes a manifest or an index, after everything that it names.
fn push_document(registry: &Registry, layout: &Path, repository: &str, entry: &Value, name: &str) {
    let read = |digest: &str| {
        let hex = digest.trim_start_matches("sha256:");
        std::fs::read(layout.join("blobs/sha256").join(hex)).expect("the fixture has every blob")
    };
    let bytes = read(&digest(entry));
    let document: Value = serde_json::from_slice(&bytes).expect("a manifest is JSON");
    for named in entries(&document, "manifests") {
        push_document(registry, layout, repository, &named, &digest(&named));
    }
    let config = document.get("config").cloned();
    for blob in entries(&document, "layers").into_iter().chain(config) {
        push_blob(registry, repository, &read(&digest(&blob)));
    }
    let media_type = entry["mediaType"].as_str().expect("a media type");
    push_manifest(registry, repository, name, media_type, &bytes);
}

/// Puts a manifest under a tag or its digest.
///
/// # Panics
///
/// When the registry does not take it.
pub fn push_manifest(
    registry: &Registry,
    repository: &str,
    name: &str,
    media_type: &str,
    bytes: &[u8],
) {
    let path = format!("/v2/{repository}/manifests/{name}");
    let (status, _) = request(registry, "PUT", &path, media_type, bytes);
    assert_eq!(status, 201, "PUT {path}");
}

/// Puts a blob into a repository.
///
/// # Panics
///
/// When the registry does not take it.
pub fn push_blob(registry: &Registry, repository: &str, bytes: &[u8]) {
    let kind = "application/octet-stream";
    let start = format!("/v2/{repository}/blobs/uploads/");
    let (status, location) = request(registry, "POST", &start, kind, b"");
    assert_eq!(status, 202, "POST {start}");
    let location = location.expect("an upload has a place");
    let path = location
        .strip_prefix(&format!("http://{}", registry.address()))
        .unwrap_or(&location);
    let between = if path.contains('?') { '&' } else { '?' };
    let path = format!("{path}{between}digest={}", crate::images::digest(bytes));
    let (status, _) = request(registry, "PUT", &path, kind, bytes);
    assert_eq!(status, 201, "PUT {path}");
}

/// One request on a connection of its own: status and `Location`.
fn request(
    registry: &Registry,
    method: &str,
    path: &str,
    media_type: &str,
    body: &[u8],
) -> (u16, Option<String>) {
    let mut stream = TcpStream::connect(registry.address()).expect("the registry listens");
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\n\r\n",
        registry.address(),
        body.len()
    );
    stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(body))
        .expect("the registry reads");
    let mut answer = Vec::new();
    stream
        .read_to_end(&mut answer)
        .expect("the registry answers");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let location = answer.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("location")
            .then(|| value.to_owned())
    });
    (status.unwrap_or(0), location)
}
