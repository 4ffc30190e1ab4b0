use base64::engine::general_purpose::{STANDARD, URL_SAFE};

use super::*;

fn known(secrets: &[&str]) -> Known {
    let mut known = Known::default();
    for secret in secrets {
        known.add(secret.as_bytes());
    }
    known
}

fn shown(known: &Known, text: &str) -> String {
    cut(text, known.find(text))
}

/// Every form in which a server may send a secret back.
fn forms(secret: &str) -> Vec<String> {
    let percent = |upper: bool| -> String {
        let byte = |byte: u8| match upper {
            true => format!("%{byte:02X}"),
            false => format!("%{byte:02x}"),
        };
        secret.bytes().map(byte).collect()
    };
    let some: String = secret
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect();
    let unicode: String = secret
        .encode_utf16()
        .map(|c| format!("\\u{c:04x}"))
        .collect();
    let html: String = secret
        .chars()
        .map(|c| format!("&#{};", u32::from(c)))
        .collect();
    let split = |by: &str| {
        let parts: Vec<_> = secret.chars().map(String::from).collect();
        parts.join(by)
    };
    let escaped = |by: &str| {
        let parts: Vec<_> = secret
            .chars()
            .map(|c| c.to_string().replace('\\', "\\\\"))
            .collect();
        parts.join(by)
    };
    let header = format!("Authorization: Bearer {secret}");
    vec![
        secret.to_owned(),
        secret.to_ascii_uppercase(),
        percent(true),
        percent(false),
        some.clone(),
        some.replace('%', "%25"),
        some.replace("%20", "+"),
        unicode.clone(),
        unicode.replace('\\', "\\\\"),
        html,
        format!("{secret:?}"),
        serde_json::to_string(secret).unwrap().replace('/', "\\/"),
        secret.escape_default().to_string(),
        split("\n"),
        split("\u{200b}"),
        split("\u{1b}"),
        escaped("\\n"),
        escaped("\\u{202e}"),
        STANDARD.encode(secret),
        URL_SAFE.encode(secret),
        STANDARD.encode(&header),
        STANDARD.encode(format!("x{header}")),
        STANDARD.encode(format!("xy{header} z")),
        STANDARD
            .encode(&header)
            .replace('+', "%2B")
            .replace('=', "%3D"),
        secret.bytes().map(|byte| format!("{byte:02x}")).collect(),
    ]
}

#[test]
fn redacts_every_form_of_a_secret() {
    for secret in [
        "S3CRETpw",
        "p%41ss w\\ord",
        "a/b+c=d&e?f",
        "quote\"and'tick<tag>",
        "schlüssel-größe",
        "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl_-",
    ] {
        let known = known(&[secret]);
        for form in forms(secret) {
            for text in [form.clone(), format!("it says {form}: no")] {
                let shown = shown(&known, &text);
                assert!(shown.contains(MARK), "{secret} as {text} gave {shown}");
                let decoded = STANDARD.decode(&shown).unwrap_or_default();
                assert!(
                    !String::from_utf8_lossy(&decoded).contains(secret),
                    "{secret} as {text} gave {shown}"
                );
                assert!(!shown.contains(secret), "{secret} as {text} gave {shown}");
            }
        }
    }
}

#[test]
fn redacts_logins_as_the_basic_scheme_has_them() {
    add_login("user", "T0psecret!");
    let text = "Basic dXNlcjpUMHBzZWNyZXQh";
    assert_eq!(redact(text), "Basic ***");
    assert_eq!(redact("user:T0psecret! is wrong"), "*** is wrong");
    assert_eq!(redact("user is wrong"), "user is wrong");
    let inner = STANDARD.encode(text);
    assert!(redact(&inner).contains(MARK), "{inner}");
}

#[test]
fn redacts_parts_of_long_secrets() {
    let token = "k8Zr41nQx07vLmBt92Hs";
    let known = known(&[token]);
    assert_eq!(
        shown(&known, "begins with k8Zr41nQx07vLm"),
        "begins with ***"
    );
    assert_eq!(shown(&known, "ends with x07vLmBt92Hs."), "ends with ***.");
    assert_eq!(shown(&known, "has nQx07"), "has nQx07");
}

#[test]
fn keeps_what_is_no_secret() {
    let known = known(&["abc", "ab", ""]);
    assert_eq!(shown(&known, "abc, xabc and ab"), "***, xabc and ab");
    assert_eq!(shown(&known, "x abcs (abc)"), "x abcs (***)");
    for text in [
        "",
        "%",
        "%4",
        "\\",
        "\\u12",
        "&;",
        "&#x;",
        "ä\u{202e}%ff%fe",
    ] {
        assert_eq!(shown(&known, text), text);
    }
}

#[test]
fn keeps_what_the_user_typed() {
    let mut known = known(&["pass"]);
    known.public.insert("quay.io/acme/xdp-pass:v1".to_owned());
    assert_eq!(
        shown(
            &known,
            "cannot pull quay.io/acme/xdp-pass:v1: pass is wrong"
        ),
        "cannot pull quay.io/acme/xdp-pass:v1: *** is wrong"
    );
}

#[test]
fn redacts_user_names_and_passwords_of_urls() {
    for (text, expected) in [
        ("to http://u:p@h:1/x now", "to http://***@h:1/x now"),
        ("https://token@h/x", "https://***@h/x"),
        ("socks5://u:p@ss@h", "socks5://***@h"),
        ("ssh://root@h", "ssh://root@h"),
        (
            "docker://quay.io/a@sha256:00",
            "docker://quay.io/a@sha256:00",
        ),
        ("a@b", "a@b"),
        ("://", "://"),
    ] {
        assert_eq!(cut(text, userinfo(text)), expected, "{text}");
    }
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn never_panics_and_never_leaves_a_plain_secret(
            secret in "\\PC{4,24}",
            before in "\\PC{0,24}",
            after in "(?s).{0,24}",
        ) {
            let mut known = Known::default();
            known.add(secret.as_bytes());
            let text = format!("{before}{secret}{after}");
            let shown = shown(&known, &text);
            let long = condensed(&units_of(&secret)).len() >= WORD;
            prop_assert!(!long || !shown.contains(&secret) || MARK.contains(&secret), "{shown}");
        }
    }
}
