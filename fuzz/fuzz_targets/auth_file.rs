//! The name of an image in the first line, a file with logins in the rest.
#![no_main]

use bytecode_image::host::auth_file::{AuthFile, Found, Login, Secret};
use bytecode_image::reference::Reference;
use bytecode_image::registry::auth::Credentials;
use libfuzzer_sys::fuzz_target;

/// The same login, but for what nobody may read.
fn with_another_secret(login: &Login) -> Login {
    match login {
        Login::Password(credentials) => Login::Password(Credentials {
            username: credentials.username.clone(),
            password: "another".to_owned(),
        }),
        Login::IdentityToken(_) => Login::IdentityToken(Secret::new("another")),
    }
}

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
            // Looking for the secret in what is shown would not do: a user may have the password's name, and a token may
            // be part of the words around it.
            assert_eq!(
                format!("{login:?}"),
                format!("{:?}", with_another_secret(&login))
            );
        }
        Ok(Some(Found::Helper { name, .. })) => assert!(!name.is_empty()),
        Ok(None) | Err(_) => {}
    }
});
