//! The labels of an image, a line each (programs, maps, then the four older ones), held against an object.
#![no_main]

use std::sync::LazyLock;

use bytecode_image::labels::{
    Labels, MAPS_LABEL, OLD_FILENAME_LABEL, OLD_FUNCTION_LABEL, OLD_PROGRAM_NAME_LABEL,
    OLD_TYPE_LABEL, PROGRAMS_LABEL,
};
use bytecode_image::limits::MAX_LABEL_NAMES;
use bytecode_object::ObjectInfo;
use libfuzzer_sys::fuzz_target;

const NAMES: [&str; 6] = [
    PROGRAMS_LABEL,
    MAPS_LABEL,
    OLD_PROGRAM_NAME_LABEL,
    OLD_FUNCTION_LABEL,
    OLD_TYPE_LABEL,
    OLD_FILENAME_LABEL,
];

/// One of the tests' programs, compiled by fuzz/run.
static OBJECT: LazyLock<ObjectInfo> = LazyLock::new(|| {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/target/objects/many.bpfel.o");
    let bytes = std::fs::read(file).expect("fuzz/run compiles the object");
    ObjectInfo::parse(&bytes).expect("an object")
});

fuzz_target!(|text: &str| {
    // An empty line: the label is not there.
    let lines = NAMES.into_iter().zip(text.split('\n'));
    let labels = lines
        .filter(|(_, line)| !line.is_empty())
        .map(|(name, line)| (name.to_owned(), line.to_owned()))
        .collect();
    let Ok(read) = Labels::from_config_labels(&labels) else {
        return;
    };
    assert!(read.programs.len() <= MAX_LABEL_NAMES && read.maps.len() <= MAX_LABEL_NAMES);
    if read.check(&OBJECT).is_ok() {
        assert!(
            read.programs
                .keys()
                .all(|name| OBJECT.programs.contains_key(name))
        );
    }
});
