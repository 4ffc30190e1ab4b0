//! `registries.conf`: the manual's examples, which table fits, mirrors, short names and errors.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::reference::Reference;

const FILE: &str = "/etc/containers/registries.conf";
const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn parse(text: &str) -> Result<Registries, RegistriesError> {
    Registries::parse(Path::new(FILE), text.as_bytes())
}

/// The plan for an image: an endpoint a word, a `~` in front of one that is insecure; or the error.
fn plan(text: &str, image: &str) -> String {
    let short = (!image.split('/').next().unwrap().contains(['.', ':']) || !image.contains('/'))
        .then(|| image.split(['@', ':']).next().unwrap());
    let image: Reference = image.parse().unwrap();
    match parse(text).unwrap().plan(&image, short) {
        Err(error) => error.to_string(),
        Ok(endpoints) => {
            // Of each image the last endpoint, and no other, is the registry itself.
            for pair in endpoints.windows(2) {
                assert_eq!(
                    pair[0].mirror,
                    pair[0].image == pair[1].image,
                    "{endpoints:?}"
                );
            }
            assert!(!endpoints.last().unwrap().mirror);
            let word = |endpoint: &Endpoint| {
                format!(
                    "{}{}",
                    if endpoint.insecure { "~" } else { "" },
                    endpoint.reference
                )
            };
            endpoints.iter().map(word).collect::<Vec<_>>().join(" ")
        }
    }
}

/// The example of containers-registries.conf(5).
const MANUAL: &str = r#"
unqualified-search-registries = ["example.com"]

[[registry]]
prefix = "example.com/foo"
insecure = false
blocked = false
location = "internal-registry-for-example.com/bar"

[[registry.mirror]]
location = "example-mirror-0.local/mirror-for-foo"

[[registry.mirror]]
location = "example-mirror-1.local/mirrors/foo"
insecure = true

[[registry]]
location = "registry.com"

[[registry.mirror]]
location = "mirror.registry.com"
"#;

#[test]
fn the_manual_s_examples() {
    let cases = [
        (
            "example.com/foo/image:latest",
            "example-mirror-0.local/mirror-for-foo/image:latest ~example-mirror-1.local/mirrors/foo/image:latest internal-registry-for-example.com/bar/image:latest",
        ),
        (
            "registry.com/image:latest",
            "mirror.registry.com/image:latest registry.com/image:latest",
        ),
        ("example.com/foobar:1", "example.com/foobar:1"),
        ("image", "example.com/image:latest"),
        ("quay.io/a:1", "quay.io/a:1"),
    ];
    for (image, expected) in cases {
        assert_eq!(plan(MANUAL, image), expected, "{image}");
    }
    let remapped = "[[registry]]\nprefix = 'example.com/foo'\nlocation = 'internal-registry-for-example.net/bar'";
    assert_eq!(
        plan(remapped, "example.com/foo/myimage:latest"),
        "internal-registry-for-example.net/bar/myimage:latest"
    );
    let wildcard = "[[registry]]\nprefix = '*.example.com'\ninsecure = true";
    assert_eq!(
        plan(wildcard, "blah.example.com/foo/myimage:latest"),
        "~blah.example.com/foo/myimage:latest"
    );
}

#[test]
fn which_table_fits() {
    // Each table's location says which one it is.
    let text: String = [
        ("a.com", "host.out"),
        ("a.com/ns", "ns.out"),
        ("a.com/ns/repo", "repo.out/x"),
        ("a.com/ns/repo:v1", "tag.out/x:v9"),
        ("a.com:5000", "port.out"),
        ("*.b.com", "wild.out"),
        ("x.b.com", "host-loses.out"),
        ("x.b.com/ns", "exact.out"),
        ("*.deep.b.com", "deep.out"),
        ("docker.io/library", "hub.out/official"),
        ("[fd00::2]:5000", "six.out"),
        ("UPPER.com/", "upper.out/"),
    ]
    .iter()
    .map(|(prefix, location)| {
        format!("[[registry]]\nprefix = '{prefix}'\nlocation = '{location}'\n")
    })
    .collect();
    let pinned = format!("a.com/ns/repo@{DIGEST}");
    let both = format!("a.com/ns/repo:v1@{DIGEST}");
    let pinned_out = format!("repo.out/x@{DIGEST}");
    let both_out = format!("tag.out/x:v9@{DIGEST}");
    let cases = [
        ("a.com/x:1", "host.out/x:1"),
        ("a.com/nsx:1", "host.out/nsx:1"),
        ("a.com/ns/x:1", "ns.out/x:1"),
        ("a.com/ns/repo:1", "repo.out/x:1"),
        ("a.com/ns/repo/x:1", "repo.out/x/x:1"),
        ("a.com/ns/repo:v1", "tag.out/x:v9"),
        ("a.com/ns/repo:v11", "repo.out/x:v11"),
        (&pinned, &pinned_out),
        (&both, &both_out),
        ("a.com:5000/x:1", "port.out/x:1"),
        ("xa.com/x:1", "xa.com/x:1"),
        ("b.com/x:1", "b.com/x:1"),
        ("y.b.com/x:1", "wild.out/x:1"),
        ("y.z.b.com/x:1", "wild.out/x:1"),
        ("x.b.com/x:1", "wild.out/x:1"),
        ("x.b.com/ns/x:1", "exact.out/x:1"),
        ("y.b.com.evil.com/x:1", "y.b.com.evil.com/x:1"),
        ("evil.com/y.b.com:1", "evil.com/y.b.com:1"),
        ("docker.io/busybox:1", "hub.out/official/busybox:1"),
        ("docker.io/acme/busybox:1", "docker.io/acme/busybox:1"),
        ("[fd00::2]:5000/x:1", "six.out/x:1"),
        ("upper.com/x:1", "upper.out/x:1"),
        ("Upper.COM/x:1", "upper.out/x:1"),
    ];
    for (image, expected) in cases {
        assert_eq!(plan(&text, image), expected, "{image}");
    }
    // A host fits at any port, as podman has it; the port goes with the name.
    let any_port = "[[registry]]\nprefix = 'c.com'\nlocation = 'd.com'\n[[registry]]\nlocation = 'e.com'\ninsecure = true";
    assert_eq!(plan(any_port, "c.com:5000/x:1"), "d.com:5000/x:1");
    assert_eq!(plan(any_port, "e.com:5000/x:1"), "~e.com:5000/x:1");
    // A wildcard goes before the host that it covers, wherever they stand.
    for text in [
        "[[registry]]\nprefix = '*.b.com'\nblocked = true\n[[registry]]\nlocation = 'x.b.com'",
        "[[registry]]\nlocation = 'x.b.com'\n[[registry]]\nprefix = '*.b.com'\nblocked = true",
    ] {
        assert!(plan(text, "x.b.com/x:1").contains("is blocked"));
    }
    let twice = "[[registry]]\nprefix = 'a.com'\nlocation = 'one.com'\n[[registry]]\nprefix = 'a.com'\nlocation = 'two.com'";
    assert_eq!(plan(twice, "a.com/x:1"), "one.com/x:1");
}

#[test]
fn mirrors_by_tag_and_by_digest() {
    let mirrors = "[[registry.mirror]]\nlocation = 'all.m'\n\
         [[registry.mirror]]\nlocation = 'digest.m'\npull-from-mirror = 'digest-only'\n\
         [[registry.mirror]]\nlocation = 'tag.m'\npull-from-mirror = 'tag-only'\ninsecure = true\n";
    let text = format!("[[registry]]\nlocation = 'a.com'\n{mirrors}");
    assert_eq!(plan(&text, "a.com/x:1"), "all.m/x:1 ~tag.m/x:1 a.com/x:1");
    let pinned = format!("a.com/x@{DIGEST}");
    assert_eq!(
        plan(&text, &pinned),
        format!("all.m/x@{DIGEST} digest.m/x@{DIGEST} a.com/x@{DIGEST}")
    );

    let only = "[[registry]]\nlocation = 'a.com'\nmirror-by-digest-only = true\n\
         [[registry.mirror]]\nlocation = 'm.m'\npull-from-mirror = ''\n";
    assert_eq!(plan(only, "a.com/x:1"), "a.com/x:1");
    assert_eq!(
        plan(only, &pinned),
        format!("m.m/x@{DIGEST} a.com/x@{DIGEST}")
    );

    let wildcard =
        "[[registry]]\nprefix = '*.a.com'\n[[registry.mirror]]\nlocation = 'm.m/cache'\n";
    assert_eq!(plan(wildcard, "b.a.com/x:1"), "m.m/cache/x:1 b.a.com/x:1");
}

#[test]
fn blocked() {
    let text = "unqualified-search-registries = ['a.com', 'b.com']\n\n\
         [[registry]]\nlocation = 'a.com'\nblocked = true\n\
         [[registry]]\nprefix = 'a.com/free'\nlocation = 'a.com/free'\n";
    // Tables of one location must agree; these two are of two locations.
    let error = plan(text, "a.com/x:1");
    assert_eq!(
        error,
        format!(
            "a.com/x:1 is blocked: in {FILE}, line 3, key `registry[0]` has `blocked = true` for `a.com`"
        )
    );
    assert!(plan(text, "a.com:443/x").contains("is blocked"));
    assert_eq!(plan(text, "a.com/free/x:1"), "a.com/free/x:1");
    // Of a short name's registries the others are left.
    assert_eq!(plan(text, "x:1"), "b.com/x:1");
    let all = text.replace(", 'b.com'", "");
    assert!(plan(&all, "x:1").starts_with("a.com/x:1 is blocked"));
}

#[test]
fn short_names() {
    let search = "unqualified-search-registries = ['a.com', 'docker.io', 'localhost:5000']\n";
    let aliases = "[aliases]\n'fedora' = 'registry.fedoraproject.org/fedora'\n'ubi8/ubi' = 'registry.access.redhat.com/ubi8/ubi'\n'gone' = ''\n'hub' = 'docker.io/hub'\n";
    let both = format!("{search}{aliases}");
    let enforcing = format!("short-name-mode = 'enforcing'\n{both}");
    let one = "short-name-mode = 'enforcing'\nunqualified-search-registries = ['a.com']\n";
    let pinned = format!("fedora:1@{DIGEST}");
    let pinned_out = format!("registry.fedoraproject.org/fedora:1@{DIGEST}");
    let cases = [
        ("", "x", "docker.io/library/x:latest"),
        ("", "acme/x:1", "docker.io/acme/x:1"),
        (
            search,
            "x:1",
            "a.com/x:1 docker.io/library/x:1 localhost:5000/x:1",
        ),
        (
            search,
            "library/x:1",
            "a.com/library/x:1 docker.io/library/x:1 localhost:5000/library/x:1",
        ),
        (search, "docker.io/x:1", "docker.io/library/x:1"),
        (&both, "fedora", "registry.fedoraproject.org/fedora:latest"),
        (&both, &pinned, &pinned_out),
        (&both, "ubi8/ubi:9", "registry.access.redhat.com/ubi8/ubi:9"),
        (&both, "hub:1", "docker.io/library/hub:1"),
        (
            &both,
            "gone:1",
            "a.com/gone:1 docker.io/library/gone:1 localhost:5000/gone:1",
        ),
        (
            &enforcing,
            "fedora:1",
            "registry.fedoraproject.org/fedora:1",
        ),
        (one, "x:1", "a.com/x:1"),
        (
            &enforcing,
            "x:1",
            "the short name `x` could be any of a.com/x, docker.io/library/x, localhost:5000/x: short-name-mode is enforcing, so write the whole name",
        ),
    ];
    for (text, image, expected) in cases {
        assert_eq!(plan(text, image), expected, "{image}");
    }
    // The name of the image is the full one, even where a mirror answers.
    let mirrored = parse("[aliases]\na = 'a.com/a'\n[[registry]]\nlocation = 'a.com'\n[[registry.mirror]]\nlocation = 'm.m'").unwrap();
    let endpoints = mirrored.plan(&"a:1".parse().unwrap(), Some("a")).unwrap();
    let names: Vec<_> = endpoints
        .iter()
        .map(|endpoint| endpoint.image.to_string())
        .collect();
    assert_eq!(names, ["a.com/a:1", "a.com/a:1"]);
}

#[test]
fn places_that_make_no_reference() {
    let cases = [
        (
            "[[registry]]\nprefix = 'a.com'\nlocation = 'bare'",
            "a.com/x:1",
            "line 3, key `registry[0].location`: `bare` does not begin with a registry",
        ),
        (
            "[[registry]]\nlocation = 'a.com'\n[[registry.mirror]]\nlocation = 'm.m/UPPER'",
            "a.com/x:1",
            "line 4, key `registry[0].mirror[0].location`: with `m.m/UPPER`, a.com/x:1 would be `m.m/UPPER/x:1`",
        ),
        (
            "unqualified-search-registries = [\n  'a.com',\n  'bare']",
            "x",
            "line 3, key `unqualified-search-registries[1]`: `bare` does not begin with a registry",
        ),
    ];
    for (text, image, expected) in cases {
        let error = plan(text, image);
        assert!(error.contains(expected), "{error}");
        // For other images nothing is wrong.
        assert_eq!(plan(text, "other.com/x:1"), "other.com/x:1");
    }
}

#[test]
fn version_1() {
    // The example of containers-registries.conf(5).
    let text = "[registries.search]\nregistries = ['registry1.com', 'registry2.com']\n\
         [registries.insecure]\nregistries = ['registry3.com']\n\
         [registries.block]\nregistries = ['registry.untrusted.com', 'registry.unsafe.com']\n";
    assert_eq!(plan(text, "x:1"), "registry1.com/x:1 registry2.com/x:1");
    assert_eq!(plan(text, "registry3.com/x:1"), "~registry3.com/x:1");
    assert!(
        plan(text, "registry.unsafe.com/x:1")
            .contains("is blocked: in /etc/containers/registries.conf, line 6")
    );
    let empty = "unqualified-search-registries = ['a.com']\n[registries.search]\nregistries = []";
    assert_eq!(plan(empty, "x:1"), "a.com/x:1");
    let drop_in = table_error(text, parse::Format::DropIn);
    assert!(
        drop_in.contains("line 1, key `registries`: a drop-in file is of version 2"),
        "{drop_in}"
    );
}

fn table_error(text: &str, format: parse::Format) -> String {
    Conf::parse(Path::new(FILE), text.as_bytes(), format)
        .unwrap_err()
        .to_string()
}

#[test]
fn errors_name_file_line_and_key() {
    let cases = [
        ("a = ", 1, ""),
        ("\na = 1\na = 2", 3, ""),
        (
            "unqualified-search-registries = 'a.com'",
            1,
            "key `unqualified-search-registries`: expected an array of strings, found string",
        ),
        (
            "unqualified-search-registries = ['a.com',\n\n1]",
            3,
            "key `unqualified-search-registries[1]`: expected a string, found integer",
        ),
        (
            "unqualified-search-registries = ['https://a.com']",
            1,
            "key `unqualified-search-registries[0]`: `https://a.com` is a URL",
        ),
        (
            "unqualified-search-registries = ['a.com/ns']",
            1,
            "key `unqualified-search-registries[0]`: `a.com/ns` is not a registry",
        ),
        ("unqualified-search-registries = ['/']", 1, "it is empty"),
        (
            "\nshort-name-mode = 'ask'",
            2,
            "key `short-name-mode`: `ask` is none of enforcing, permissive, disabled",
        ),
        (
            "credential-helpers = [true]",
            1,
            "key `credential-helpers[0]`: expected a string, found boolean",
        ),
        (
            "registry = 1",
            1,
            "key `registry`: expected an array of tables, found integer",
        ),
        (
            "[registry]\nlocation = 'a.com'",
            1,
            "key `registry`: expected an array of tables, found table",
        ),
        (
            "\n[[registry]]\n",
            2,
            "key `registry[0]`: the registry has no `location`",
        ),
        (
            "[[registry]]\nlocation = ''",
            1,
            "key `registry[0]`: the registry has no `location`",
        ),
        (
            "[[registry]]\nprefix = 'a.com'",
            1,
            "key `registry[0]`: the registry has no `location`",
        ),
        (
            "[[registry]]\nlocation = 'http://a.com'",
            2,
            "key `registry[0].location`: `http://a.com` is a URL",
        ),
        (
            "[[registry]]\nlocation = 'a.com'\ninsecure = 'yes'",
            3,
            "key `registry[0].insecure`: expected true or false, found string",
        ),
        (
            "[[registry]]\nprefix = 'a.*.com'\nlocation = 'a.com'",
            2,
            "key `registry[0].prefix`: `a.*.com`: a `*` stands",
        ),
        (
            "[[registry]]\nprefix = '*.a.com/b'",
            2,
            "key `registry[0].prefix`: `*.a.com/b`: a `*` stands",
        ),
        (
            "[[registry]]\nprefix = '*.a.com:5000'",
            2,
            "key `registry[0].prefix`: `*.a.com:5000`: a `*` stands",
        ),
        ("[[registry]]\nprefix = '*'", 2, "a `*` stands"),
        (
            "[[registry]]\nlocation = 'a.com'\npull-from-mirror = 'all'",
            3,
            "key `registry[0].pull-from-mirror`: it belongs to [[registry.mirror]]",
        ),
        (
            "[[registry]]\nlocation = 'a.com'\n[[registry.mirror]]\n",
            3,
            "key `registry[0].mirror[0]`: the mirror has no `location`",
        ),
        (
            "[[registry]]\nlocation = 'a.com'\n[[registry.mirror]]\nlocation = 'm.m'\npull-from-mirror = 'x'",
            5,
            "key `registry[0].mirror[0].pull-from-mirror`: `x` is none of all, digest-only, tag-only",
        ),
        (
            "[[registry]]\nlocation = 'a.com'\nmirror-by-digest-only = true\n[[registry.mirror]]\nlocation = 'm.m'\npull-from-mirror = 'all'",
            6,
            "key `registry[0].mirror[0].pull-from-mirror`: the registry has `mirror-by-digest-only`",
        ),
        (
            "[[registry]]\nlocation = 'a.com'\n\n[[registry]]\nlocation = 'a.com'\ninsecure = true",
            4,
            "key `registry[1]`: another [[registry]] with the location `a.com` has another value of `insecure`",
        ),
        (
            "[aliases]\n'a.com/b' = 'c.com/b'",
            2,
            "key `aliases.a.com/b`: `a.com/b` is not a short name",
        ),
        (
            "[aliases]\n'b:1' = 'c.com/b'",
            2,
            "`b:1` is not a short name",
        ),
        (
            "[aliases]\nb = 'b'",
            2,
            "key `aliases.b`: `b` is not a full name",
        ),
        (
            "[aliases]\nb = 'c.com/b:1'",
            2,
            "`c.com/b:1` is not a full name",
        ),
        (
            "[aliases]\nb = 1",
            2,
            "key `aliases.b`: expected a string, found integer",
        ),
        (
            "[registries.search]\nregistries = ['a.com']\n[[registry]]\nlocation = 'a.com'",
            1,
            "of version 1",
        ),
    ];
    for (text, line, expected) in cases {
        let error = table_error(text, parse::Format::Main);
        assert!(
            error.starts_with(&format!("in {FILE}, line {line}")),
            "{text}\n{error}"
        );
        assert!(error.contains(expected), "{text}\n{error}");
    }
    let error = Registries::parse(Path::new(FILE), b"\xff").unwrap_err();
    assert_eq!(error.to_string(), format!("in {FILE}: not UTF-8"));
}

#[test]
fn what_is_not_known_is_passed_over() {
    let text = "additional = { a = 1 }\n[[registry]]\nlocation = 'a.com'\nnew-key = [1]\n";
    assert_eq!(plan(text, "a.com/x:1"), "a.com/x:1");
    assert_eq!(
        parse("credential-helpers = ['containers-auth.json', 'pass']")
            .unwrap()
            .credential_helpers(),
        ["containers-auth.json", "pass"]
    );
    assert!(parse("").unwrap().credential_helpers().is_empty());
}

/// A file of the largest size is read and asked without going through it again for each of its tables.
#[test]
fn large_files() {
    let text: String = (0..20_000)
        .map(|at| format!("[[registry]]\nlocation = 'r{at}.com'\n"))
        .collect();
    assert!((text.len() as u64) < MAX_REGISTRIES_BYTES);
    assert_eq!(plan(&text, "r19999.com/x:1"), "r19999.com/x:1");
}

proptest! {
    #[test]
    fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = Registries::parse(Path::new(FILE), &bytes);
    }

    #[test]
    fn near_files(
        prefix in "[a-z.*:/@]{0,12}",
        location in "[a-z.*:/@A]{0,12}",
        mirror in "[a-z.:/@]{0,12}",
        image in "[a-z]{1,3}(\\.[a-z]{1,2}){0,2}(:[1-9])?/[a-z]{1,3}(:[a-z]{1,3})?",
    ) {
        let text = format!(
            "unqualified-search-registries = ['{mirror}']\n[aliases]\n'{prefix}' = '{location}'\n\
             [[registry]]\nprefix = '{prefix}'\nlocation = '{location}'\n[[registry.mirror]]\nlocation = '{mirror}'\n"
        );
        if let (Ok(registries), Ok(image)) = (parse(&text), image.parse::<Reference>())
            && let Ok(endpoints) = registries.plan(&image, Some(image.repository()))
        {
            prop_assert!(!endpoints.is_empty());
        }
    }
}
