use proptest::prelude::*;

use super::*;

const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn filled_in() {
    let digest = format!("@{D}");
    let cases: &[(&str, &str, &str, Option<&str>, bool)] = &[
        (
            "busybox",
            "docker.io",
            "library/busybox",
            Some("latest"),
            false,
        ),
        (
            "busybox:1",
            "docker.io",
            "library/busybox",
            Some("1"),
            false,
        ),
        ("acme/xdp", "docker.io", "acme/xdp", Some("latest"), false),
        (
            "docker.io/busybox",
            "docker.io",
            "library/busybox",
            Some("latest"),
            false,
        ),
        (
            "index.docker.io/busybox",
            "docker.io",
            "library/busybox",
            Some("latest"),
            false,
        ),
        ("quay.io/a/b:v1", "quay.io", "a/b", Some("v1"), false),
        ("quay.io/a", "quay.io", "a", Some("latest"), false),
        ("QUAY.io/a", "quay.io", "a", Some("latest"), false),
        ("localhost/a", "localhost", "a", Some("latest"), true),
        (
            "localhost:5000/a",
            "localhost:5000",
            "a",
            Some("latest"),
            true,
        ),
        (
            "localhosts/a",
            "docker.io",
            "localhosts/a",
            Some("latest"),
            false,
        ),
        (
            "127.0.0.1:5000/a/b/c:T_1.2-3",
            "127.0.0.1:5000",
            "a/b/c",
            Some("T_1.2-3"),
            true,
        ),
        ("127.9.9.9/a", "127.9.9.9", "a", Some("latest"), true),
        ("128.0.0.1/a", "128.0.0.1", "a", Some("latest"), false),
        ("[::1]:5000/a", "[::1]:5000", "a", Some("latest"), true),
        ("[0:0::1]:05000/a", "[::1]:5000", "a", Some("latest"), true),
        ("[FD00:0::0:2]/a", "[fd00::2]", "a", Some("latest"), false),
        ("quay.io:0443/a", "quay.io:443", "a", Some("latest"), false),
        (
            "LocalHost:005000/a",
            "localhost:5000",
            "a",
            Some("latest"),
            true,
        ),
        (
            "Docker.io/busybox",
            "docker.io",
            "library/busybox",
            Some("latest"),
            false,
        ),
        (
            "DOCKER.IO:443/busybox",
            "docker.io",
            "library/busybox",
            Some("latest"),
            false,
        ),
        (
            "Index.Docker.io/busybox",
            "docker.io",
            "library/busybox",
            Some("latest"),
            false,
        ),
        (
            "registry-1.DOCKER.io:0443/acme/xdp",
            "docker.io",
            "acme/xdp",
            Some("latest"),
            false,
        ),
        ("[fd00::2]/a:x", "[fd00::2]", "a", Some("x"), false),
        (
            "a.b/c__d/e---f/g.h",
            "a.b",
            "c__d/e---f/g.h",
            Some("latest"),
            false,
        ),
        (
            "localhost.evil.example/a",
            "localhost.evil.example",
            "a",
            Some("latest"),
            false,
        ),
        (
            "127.0.0.1.evil.example/a",
            "127.0.0.1.evil.example",
            "a",
            Some("latest"),
            false,
        ),
    ];
    for (text, registry, repository, tag, loopback) in cases {
        let parsed: Reference = text.parse().unwrap();
        assert_eq!(parsed.registry(), *registry, "{text}");
        assert_eq!(parsed.repository(), *repository, "{text}");
        assert_eq!(parsed.tag(), *tag, "{text}");
        assert_eq!(parsed.digest(), None, "{text}");
        assert_eq!(parsed.is_loopback(), *loopback, "{text}");

        let pinned: Reference = format!("{text}{digest}").parse().unwrap();
        assert_eq!(pinned.digest(), Some(Digest::parse(D).unwrap()));
        let written = text.rsplit('/').next().unwrap().contains(':');
        assert_eq!(pinned.tag(), if written { *tag } else { None }, "{text}");
    }
    assert_eq!(
        "busybox".parse::<Reference>().unwrap().api_host(),
        "registry-1.docker.io"
    );
    assert_eq!(
        "quay.io/a".parse::<Reference>().unwrap().api_host(),
        "quay.io"
    );
}

#[test]
fn refused() {
    let long_tag = format!("a:{}", "t".repeat(129));
    let long_repository = format!("quay.io/{}", "a".repeat(256));
    let long = "a".repeat(1025);
    let cases: &[(&str, &str)] = &[
        ("", "names no repository"),
        ("quay.io/", "names no repository"),
        (":tag", "names no repository"),
        ("https://quay.io/a/b", "is a URL"),
        ("quay.io/A/b", "has a capital letter"),
        ("Acme", "has a capital letter"),
        ("quay.io/a//b", "is not a repository"),
        ("quay.io/a/", "is not a repository"),
        ("/a", "is not a repository"),
        ("a..b", "is not a repository"),
        ("a___b", "is not a repository"),
        ("-a", "is not a repository"),
        ("a-", "is not a repository"),
        ("quay.io/../a", "is not a repository"),
        ("quay.io/a b", "is not a repository"),
        ("quay.io/a%2fb", "is not a repository"),
        ("quay.io/a?x", "is not a repository"),
        ("quay.io/é", "is not a repository"),
        ("quay.io:99999/a", "is not a registry"),
        ("quay.io:0/a", "is not a registry"),
        ("quay.io:/a", "is not a registry"),
        ("quay.io:x/a", "is not a registry"),
        ("user@quay.io/a", "in the image reference"),
        ("-a.b/c", "is not a registry"),
        ("[::1/a", "is not a registry"),
        ("[::1]5000/a", "is not a registry"),
        ("[::g]/a", "is not a registry"),
        ("::1/a", "is not a registry"),
        // A URL takes these for 127.0.0.1, 10.0.0.1 and `quay`.
        ("127.1/a", "is not a registry"),
        ("127.0.0.01:5000/a", "is not a registry"),
        ("0x7f.0.0.1/a", "is not a registry"),
        ("10.0.0.1.2/a", "is not a registry"),
        ("xn--quay-.io/a", "is not a registry"),
        ("a:", "is not a tag"),
        ("a:-x", "is not a tag"),
        ("a:x y", "is not a tag"),
        (&long_tag, "is not a tag"),
        (&long_repository, "at most 255"),
        (&long, "at most 1024"),
        ("a@sha256:123", "in the image reference"),
        ("a@sha512:123", "in the image reference"),
        ("a@", "in the image reference"),
    ];
    for (text, message) in cases {
        let error = text.parse::<Reference>().unwrap_err().to_string();
        assert!(error.contains(message), "{text}: {error}");
    }
}

proptest! {
    #[test]
    fn never_panics(text in "\\PC{0,64}") {
        let _ = text.parse::<Reference>();
    }

    #[test]
    fn printed_and_read_again(text in "([a-z]{1,5}(\\.[a-z]{1,3})?(:[1-9][0-9]{0,3})?/)?[a-z0-9]{1,4}(/[a-z]{1,3}[._-][a-z])?(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,5})?") {
        if let Ok(parsed) = text.parse::<Reference>() {
            let again: Reference = parsed.to_string().parse().unwrap();
            prop_assert_eq!(again, parsed);
        }
    }

    #[test]
    fn one_registry_has_one_spelling(host in "(docker\\.io|index\\.docker\\.io|quay\\.io|127\\.0\\.0\\.1|\\[::1\\]|\\[fd00::a\\])", port in prop::option::of(1..=u16::MAX), zeros in 0..3_usize, upper in any::<u64>()) {
        let text = |zeros: usize| {
            let port = port.map(|port| format!(":{}{port}", "0".repeat(zeros)));
            format!("{host}{}", port.unwrap_or_default())
        };
        let shouted: String = text(zeros)
            .chars()
            .enumerate()
            .map(|(at, c)| if upper >> (at % 64) & 1 == 1 { c.to_ascii_uppercase() } else { c })
            .collect();
        let plain: Reference = format!("{}/busybox", text(0)).parse().unwrap();
        let other: Reference = format!("{shouted}/busybox").parse().unwrap();
        prop_assert_eq!(&other, &plain);
        prop_assert_eq!(other.to_string().parse::<Reference>().unwrap(), plain);
    }

    #[test]
    fn near_references(text in "[a-z.:/@\\[\\]A0-2_-]{0,40}") {
        if let Ok(parsed) = text.parse::<Reference>() {
            prop_assert_eq!(parsed.to_string().parse::<Reference>().unwrap(), parsed);
        }
    }
}

#[test]
fn short_names() {
    let cases = [
        ("busybox", Some("busybox")),
        ("busybox:v1", Some("busybox")),
        ("acme/xdp:v1@sha256:00", Some("acme/xdp")),
        ("acme/xdp", Some("acme/xdp")),
        ("quay.io/xdp", None),
        ("localhost/xdp:v1", None),
        ("host:5000/xdp", None),
        ("[::1]:5000/xdp", None),
    ];
    for (typed, expected) in cases {
        assert_eq!(short_name(typed), expected, "{typed}");
    }
}
