//! Any bytes as a layer. The first one says how it is packed: plain, gzip or zstd.
#![no_main]

use bytecode_image::digest::VerifiedBytes;
use bytecode_image::layer::read_object;
use bytecode_object::{MAX_OBJECT_BYTES, ObjectInfo};
use libfuzzer_sys::fuzz_target;

const MEDIA_TYPES: [&str; 3] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
];

fuzz_target!(|bytes: &[u8]| {
    let Some((packing, layer)) = bytes.split_first() else {
        return;
    };
    let media_type = MEDIA_TYPES[usize::from(*packing) % MEDIA_TYPES.len()];
    let layer = VerifiedBytes::hash(layer.to_vec());
    let Ok(object) = read_object(&layer, media_type, None) else {
        return;
    };
    assert!(object.bytes.len() as u64 <= MAX_OBJECT_BYTES);
    assert!(!object.name.contains('/') && object.name != "..");
    let info = ObjectInfo::parse(&object.bytes).expect("what was chosen is an object");
    assert_eq!(info, object.info);
});
