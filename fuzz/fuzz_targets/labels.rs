//! The labels of an image, a line each (programs, maps, then the four older ones), held against an object.
#![no_main]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use bytecode_image::labels::{
    Labels, MAPS_LABEL, OLD_FILENAME_LABEL, OLD_FUNCTION_LABEL, OLD_PROGRAM_NAME_LABEL,
    OLD_TYPE_LABEL, PROGRAMS_LABEL,
};
use bytecode_image::limits::MAX_LABEL_NAMES;
use bytecode_object::{ByteOrder, MapInfo, ObjectInfo, ProgramInfo, Section};
use libfuzzer_sys::fuzz_target;

const NAMES: [&str; 6] = [
    PROGRAMS_LABEL,
    MAPS_LABEL,
    OLD_PROGRAM_NAME_LABEL,
    OLD_FUNCTION_LABEL,
    OLD_TYPE_LABEL,
    OLD_FILENAME_LABEL,
];

static OBJECT: LazyLock<ObjectInfo> = LazyLock::new(|| {
    let programs = [
        ("pass", "xdp"),
        ("probe", "kprobe/do_unlinkat"),
        ("filter", "tcx/ingress"),
    ];
    let program = |(name, section): (&str, &str)| {
        let info = ProgramInfo {
            section_name: section.to_owned(),
            section: Section::parse(section),
        };
        (name.to_owned(), info)
    };
    let counts = MapInfo {
        map_type: 6,
        key_size: Some(4),
        value_size: Some(8),
        max_entries: Some(1),
        pinned_by_name: false,
    };
    ObjectInfo {
        byte_order: ByteOrder::Little,
        programs: programs.map(program).into(),
        maps: BTreeMap::from([("counts".to_owned(), counts)]),
        license: None,
        needs_kernel_btf: false,
    }
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
