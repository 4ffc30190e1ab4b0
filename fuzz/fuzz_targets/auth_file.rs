//! The name of an image in the first line, a file with logins in the rest.
#![no_main]

use bytecode_image::host::auth_file::{AuthFile, Found, Login};
use bytecode_image::reference::Reference;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (typed, json) = text.split_once('\n').unwrap_or((text, ""));
    let Ok(file) = AuthFile::parse(json.as_bytes()) else {
        return;
    };
    let Ok(image) = typed.parse::<Reference>() else {
        return;
    };
    match file.find(&image) {
        Ok(Some(Found::Login { login, .. })) => {
            let shown = format!("{login:?}");
            let secret = match &login {
                Login::Password(credentials) => credentials.password.as_str(),
                Login::IdentityToken(token) => token.expose(),
            };
            // Short ones may be part of the words around them.
            assert!(secret.len() < 16 || !shown.contains(secret), "{shown}");
        }
        Ok(Some(Found::Helper { name, .. })) => assert!(!name.is_empty()),
        Ok(None) | Err(_) => {}
    }
});
