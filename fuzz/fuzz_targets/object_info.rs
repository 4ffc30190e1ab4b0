//! Any bytes give an `ObjectInfo` or an error, never a panic; what was read gives the same labels every time.
#![no_main]

use bytecode_object::ObjectInfo;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(info) = ObjectInfo::parse(bytes) else {
        return;
    };
    assert!(
        !info.programs.is_empty(),
        "an object without a program is an error"
    );
    let again = ObjectInfo::parse(bytes).expect("what was read can be read again");
    assert_eq!(info, again);
    assert_eq!(info.programs_label(), again.programs_label());
    assert_eq!(info.maps_label(), again.maps_label());
});
