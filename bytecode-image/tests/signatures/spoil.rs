//! Changes to a good bundle.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytecode_image::digest::Digest;
use serde_json::{Value, json};

/// Changes one byte of base64 content.
pub(crate) fn flip(value: &mut Value, at: usize) {
    let mut bytes = STANDARD.decode(value.as_str().unwrap()).unwrap();
    bytes[at] ^= 1;
    *value = json!(STANDARD.encode(bytes));
}

/// Changes the digest that the envelope's statement names.
pub(crate) fn edit_payload(bundle: &mut Value) {
    let payload = STANDARD
        .decode(bundle["dsseEnvelope"]["payload"].as_str().unwrap())
        .unwrap();
    let mut statement: Value = serde_json::from_slice(&payload).unwrap();
    // A digest beside the right one, so that only the signature can tell.
    let subjects = statement["subject"].as_array_mut().unwrap();
    let mut other = subjects[0].clone();
    other["digest"]["sha256"] = json!(Digest::of(b"other").hex());
    subjects.push(other);
    bundle["dsseEnvelope"]["payload"] = json!(STANDARD.encode(statement.to_string()));
}

/// The first entry's proof with a hash too many.
pub(crate) fn with_path(bundle: &Value) -> Value {
    let mut proof = bundle["verificationMaterial"]["tlogEntries"][0]["inclusionProof"].clone();
    proof["hashes"] = json!([STANDARD.encode([1; 32])]);
    proof
}

pub(crate) fn edit_checkpoint(bundle: &mut Value, from: &str, to: &str) {
    let checkpoint = &mut bundle["verificationMaterial"]["tlogEntries"][0]["inclusionProof"]["checkpoint"]
        ["envelope"];
    let text = checkpoint.as_str().unwrap();
    assert!(text.contains(from));
    *checkpoint = json!(text.replacen(from, to, 1));
}
