//! The name of an image in the first line, `registries.conf` in the rest.
#![no_main]

use std::path::Path;

use bytecode_image::host::registries_conf::Registries;
use bytecode_image::reference::{Reference, short_name};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (typed, conf) = text.split_once('\n').unwrap_or((text, ""));
    let Ok(registries) = Registries::parse(Path::new("registries.conf"), conf.as_bytes()) else {
        return;
    };
    let Ok(image) = typed.parse::<Reference>() else {
        return;
    };
    for short in [None, short_name(typed)] {
        let Ok(endpoints) = registries.plan(&image, short) else {
            continue;
        };
        assert!(
            !endpoints.is_empty(),
            "somebody is asked, or it is an error"
        );
        for endpoint in endpoints {
            // Wherever it comes from, what is asked for is what was named.
            assert_eq!(endpoint.reference.digest(), image.digest());
            assert_eq!(endpoint.image.digest(), image.digest());
            let printed = endpoint.reference.to_string();
            assert_eq!(printed.parse::<Reference>(), Ok(endpoint.reference));
        }
    }
});
