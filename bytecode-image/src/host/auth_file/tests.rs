//! Files with logins: keys, entries, helpers, and that no secret is shown.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::*;

fn auth(text: &str) -> String {
    STANDARD.encode(text)
}

/// A file with a login for each key, whose user name is the key's number.
fn file(keys: &[&str]) -> AuthFile {
    let entries: Map<String, Value> = keys
        .iter()
        .enumerate()
        .map(|(at, key)| {
            (
                (*key).to_owned(),
                serde_json::json!({ "auth": auth(&format!("{at}:S3CR3T")) }),
            )
        })
        .collect();
    AuthFile::parse(
        serde_json::json!({ "auths": entries })
            .to_string()
            .as_bytes(),
    )
    .unwrap()
}

fn find(text: &str, image: &str) -> Result<Option<Found>, String> {
    let found =
        AuthFile::parse(text.as_bytes()).and_then(|file| file.find(&image.parse().unwrap()));
    found.map_err(|error| error.to_string())
}

#[test]
fn the_longest_key_that_fits() {
    // The example of containers-auth.json(5), and keys that look like it.
    let keys = [
        "my-registry.local/foo/bar/image",
        "my-registry.local/foo",
        "my-registry.local",
        "my-registry.local:5000",
        "docker.io",
        "docker.io/library/busybox",
        "https://old.example/v1/",
        "HOST.example",
        "http://both.example/v2",
        "both.example",
        "[fd00::2]:5000/a",
    ];
    let file = file(&keys);
    let cases = [
        ("my-registry.local/foo/bar/image:1", Some(0)),
        ("my-registry.local/foo/bar/image/x", Some(0)),
        ("my-registry.local/foo/bar/imagex", Some(1)),
        ("my-registry.local/foo", Some(1)),
        ("my-registry.local/foobar", Some(2)),
        ("my-registry.local:5000/foo", Some(3)),
        ("my-registry.local:5001/foo", None),
        ("x.my-registry.local/foo", None),
        ("alpine", Some(4)),
        ("busybox", Some(5)),
        ("index.docker.io/acme/a", Some(4)),
        ("old.example/a", Some(6)),
        ("older.example/a", None),
        ("host.example/a", Some(7)),
        ("both.example/a", Some(9)),
        ("[fd00::2]:5000/a/b", Some(10)),
        ("[fd00::2]:5000/b", None),
        ("quay.io/a", None),
    ];
    for (image, expected) in cases {
        let found = file.find(&image.parse().unwrap()).unwrap();
        let found = found.map(|found| match found {
            Found::Login {
                key,
                login: Login::Password(credentials),
            } => (key, credentials.username),
            other => panic!("{image}: {other:?}"),
        });
        assert_eq!(
            found,
            expected.map(|at: usize| (keys[at].to_owned(), at.to_string())),
            "{image}"
        );
    }
}

#[test]
fn names_of_docker_io() {
    for key in [
        "docker.io",
        "index.docker.io",
        "registry-1.docker.io",
        "https://index.docker.io/v1/",
        "https://index.docker.io/v2/",
        "https://docker.io",
    ] {
        assert!(
            file(&[key])
                .find(&"busybox".parse().unwrap())
                .unwrap()
                .is_some(),
            "{key}"
        );
    }
    for key in [
        "https://index.docker.io.evil.example/v1/",
        "index.docker.io/v1",
        "evil.example/docker.io",
    ] {
        assert_eq!(
            file(&[key]).find(&"busybox".parse().unwrap()).unwrap(),
            None,
            "{key}"
        );
    }
}

#[test]
fn forms_of_an_entry() {
    let password = |username: &str, password: &str| {
        Some(Login::Password(Credentials {
            username: username.to_owned(),
            password: password.to_owned(),
        }))
    };
    let cases = [
        (
            format!(r#"{{"auth":"{}"}}"#, auth("u:p:q")),
            password("u", "p:q"),
        ),
        (
            format!(r#"{{"auth":"{}"}}"#, auth("u:p\0\0")),
            password("u", "p"),
        ),
        (
            format!(
                r#"{{"auth":"{}","identitytoken":"t"}}"#,
                auth("00000000-0000:")
            ),
            Some(Login::IdentityToken(Secret::new("t"))),
        ),
        (
            r#"{"identitytoken":"t"}"#.to_owned(),
            Some(Login::IdentityToken(Secret::new("t"))),
        ),
        (
            r#"{"username":"u","password":"p"}"#.to_owned(),
            password("u", "p"),
        ),
        (r#"{"username":"u"}"#.to_owned(), None),
        (r#"{"auth":""}"#.to_owned(), None),
        (r#"{"auth":null,"email":"a@b"}"#.to_owned(), None),
        ("{}".to_owned(), None),
    ];
    for (entry, expected) in cases {
        let found = find(
            &format!(r#"{{"auths":{{"quay.io":{entry}}}}}"#),
            "quay.io/a",
        )
        .unwrap();
        let login = found.map(|found| match found {
            Found::Login { login, .. } => login,
            other => panic!("{other:?}"),
        });
        assert_eq!(login, expected, "{entry}");
    }
}

#[test]
fn helpers() {
    let helper = |name: &str, server: &str, general| {
        Some(Found::Helper {
            name: name.to_owned(),
            server: server.to_owned(),
            general,
        })
    };
    let file = format!(
        r#"{{"auths":{{"a.example":{{}},"b.example":{{"auth":"{0}"}},"registry.example.com":{{"auth":"{0}"}}}},
            "credHelpers":{{"registry.example.com":"secretservice","https://index.docker.io/v1/":"hub","c.example":""}},
            "credsStore":"pass"}}"#,
        auth("u:p")
    );
    let cases = [
        (
            "registry.example.com/a",
            helper("secretservice", "registry.example.com", false),
        ),
        (
            "busybox",
            helper("hub", "https://index.docker.io/v1/", false),
        ),
        ("a.example/a", helper("pass", "a.example", true)),
        ("c.example/a", helper("pass", "c.example", true)),
        ("d.example:5000/a", helper("pass", "d.example:5000", true)),
    ];
    for (image, expected) in cases {
        assert_eq!(find(&file, image).unwrap(), expected, "{image}");
    }
    assert!(matches!(
        find(&file, "b.example/a"),
        Ok(Some(Found::Login { .. }))
    ));
    assert_eq!(
        find(r#"{"credsStore":"pass"}"#, "busybox").unwrap(),
        helper("pass", "https://index.docker.io/v1/", true)
    );
    assert_eq!(
        find(r#"{"credsStore":"","credHelpers":null}"#, "busybox").unwrap(),
        None
    );
}

#[test]
fn errors_name_the_key_and_no_value() {
    let cases = [
        ("", "not JSON, in line 1, column 0"),
        ("{\n \"auths\": S3CR3T}", "not JSON, in line 2, column"),
        (r#""S3CR3T""#, "key `.` is not an object"),
        (r#"{"auths":"S3CR3T"}"#, "key `auths` is not an object"),
        (r#"{"auths":["S3CR3T"]}"#, "key `auths` is not an object"),
        (
            r#"{"credHelpers":{"quay.io":{"S3CR3T":1}}}"#,
            "key `credHelpers.quay.io` is not a string",
        ),
        (
            r#"{"credsStore":["S3CR3T"]}"#,
            "key `credsStore` is not a string",
        ),
        (
            r#"{"auths":{"quay.io":"S3CR3T"}}"#,
            "key `auths.quay.io` is not an object",
        ),
        (
            r#"{"auths":{"quay.io":{"auth":["S3CR3T"]}}}"#,
            "key `auths.quay.io.auth` is not a string",
        ),
        (
            r#"{"auths":{"quay.io":{"auth":"S3CR3T!"}}}"#,
            "key `auths.quay.io.auth`",
        ),
    ];
    for (text, expected) in cases {
        let error = find(text, "quay.io/a").unwrap_err();
        assert!(
            error.contains(expected) && !error.contains("S3CR3T"),
            "{text}: {error}"
        );
    }
    // What is wrong for another image is no error for this one.
    assert_eq!(
        find(r#"{"auths":{"ghcr.io":"S3CR3T"}}"#, "quay.io/a"),
        Ok(None)
    );
}

#[test]
fn secrets_are_not_shown() {
    let file = file(&["quay.io"]);
    let found = file.find(&"quay.io/a".parse().unwrap()).unwrap();
    let token = Login::IdentityToken(Secret::new("S3CR3T"));
    let shown = format!("{file:?} {file:#?} {found:?} {token:?}");
    assert!(
        shown.contains("quay.io") && !shown.contains("S3CR3T"),
        "{shown}"
    );
    assert!(!shown.contains(&auth("0:S3CR3T")), "{shown}");
}

proptest! {
    #[test]
    fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = AuthFile::parse(&bytes);
    }

    #[test]
    fn near_files(key in "[a-z./:]{0,12}", value in "\\PC{0,12}", field in "auth|identitytoken|username") {
        let text = serde_json::json!({ "auths": { key: { field: value } } }).to_string();
        let file = AuthFile::parse(text.as_bytes()).unwrap();
        let _ = file.find(&"a.a/a".parse().unwrap());
    }
}
