use super::*;

fn id(bytes: &[u8]) -> Option<BuildId> {
    Some(BuildId(bytes.to_vec()))
}

fn links(build_id: Option<BuildId>, link: Option<&str>) -> DebugLinks {
    DebugLinks {
        build_id,
        link: link.map(|name| DebugLink {
            name: PathBuf::from(name),
            checksum: 7,
        }),
        embedded: None,
    }
}

#[test]
fn debug_files_are_looked_for_by_build_id_then_by_name() {
    let own = [Path::new("/usr/bin/t"), Path::new("/bin/t")];
    let by_name = [
        "/usr/bin/t.debug",
        "/usr/bin/.debug/t.debug",
        "/usr/lib/debug/usr/bin/t.debug",
        "/bin/t.debug",
        "/bin/.debug/t.debug",
        "/usr/lib/debug/bin/t.debug",
    ];
    let by_id = "/usr/lib/debug/.build-id/ab/cdef.debug";
    let default = [
        by_id,
        "/usr/bin/t.debug",
        "/usr/bin/.debug/t.debug",
        "/usr/lib/debug/usr/bin/t.debug",
        "/usr/lib/debug/usr/bin/t",
        "/bin/t.debug",
        "/bin/.debug/t.debug",
        "/usr/lib/debug/bin/t.debug",
        "/usr/lib/debug/bin/t",
    ];
    let of = |links: DebugLinks| {
        let paths = links.paths(&own).into_iter();
        let paths: Vec<_> = paths
            .map(|found| found.path.to_str().unwrap().to_owned())
            .collect();
        paths
    };
    assert_eq!(of(links(None, None)), Vec::<String>::new());
    assert_eq!(of(links(None, Some("t.debug"))), by_name);
    assert_eq!(of(links(id(&[0xab, 0xcd, 0xef]), None)), default);
    let both = links(id(&[0xab, 0xcd, 0xef]), Some("t.debug")).paths(&own);
    assert_eq!(both.first().map(|found| found.proof), Some(Proof::BuildId));
    // The name in the link goes before the default one, and each path is tried once.
    let twice = |path: &str| {
        both.iter()
            .filter(|found| found.path == Path::new(path))
            .count()
    };
    assert_eq!(twice("/usr/bin/t.debug"), 1);
    // A file is not its own debug file, and an ID of one byte names none.
    assert!(!of(links(None, Some("t"))).contains(&"/usr/bin/t".to_owned()));
    assert_eq!(links(id(&[0xab]), None).build_id_path(), None);
}

#[test]
fn debug_files_of_other_builds_are_refused() {
    let checksum = |found: u32| move || Ok(found);
    let unread = || -> io::Result<u32> { panic!("it is not read") };
    let own = links(id(&[1, 2]), None);
    let same = links(id(&[1, 2]), None);
    let other = links(id(&[1, 3]), None);
    let without = DebugLinks::default();
    let large = MAX_CHECKED_BYTES + 1;

    assert!(own.check(&same, Proof::BuildId, 10, unread).is_ok());
    for (debug, found) in [(&other, "0103"), (&without, "none")] {
        let error = own.check(debug, Proof::BuildId, 10, unread).unwrap_err();
        let expected = format!("another build: expected build ID 0102, found {found}");
        assert!(error.to_string().contains(&expected), "{error}");
    }
    let by_link = Proof::Checksum(7);
    for debug in [&same, &without] {
        assert!(own.check(debug, by_link, 10, checksum(7)).is_ok());
        let error = own.check(debug, by_link, 10, checksum(8)).unwrap_err();
        assert!(matches!(error, DebugFileError::Checksum { .. }), "{error}");
    }
    // A checksum does not make up for another build ID, and nothing makes up for reading too much.
    let error = own.check(&other, by_link, 10, checksum(7)).unwrap_err();
    assert!(matches!(error, DebugFileError::BuildId { .. }), "{error}");
    assert!(own.check(&same, by_link, large, unread).is_ok());
    let error = own.check(&without, by_link, large, unread).unwrap_err();
    assert!(matches!(error, DebugFileError::TooLarge { .. }), "{error}");
}

#[test]
fn a_debuglink_is_a_name_and_a_checksum() {
    let little = Endianness::Little;
    let read = |bytes: &[u8]| link(bytes, little).map(|link| (link.name, link.checksum));
    let named = |name: &str, checksum| Some((PathBuf::from(name), checksum));
    assert_eq!(read(b"t.debug\0\x01\0\0\0"), named("t.debug", 1));
    assert_eq!(read(b"abc\0\x01\0\0\0"), named("abc", 1));
    assert_eq!(read(b"ab\0\0\x01\0\0\0"), named("ab", 1));
    assert_eq!(
        link(b"ab\0\0\0\0\0\x01", Endianness::Big).unwrap().checksum,
        1
    );
    for damaged in [
        &b""[..],
        b"abc",
        b"abc\0",
        b"abc\0\x01\0\0",
        b"\0\0\0\0\x01\0\0\0",
        b"..\0\0\x01\0\0\0",
        b"../x\0\0\0\0\x01\0\0\0",
        b"/x\0\0\x01\0\0\0",
    ] {
        assert_eq!(read(damaged), None, "{damaged:?}");
    }
}

#[test]
fn the_build_id_of_a_file_of_this_machine_is_read() {
    let bytes = std::fs::read("/bin/sh").unwrap();
    let links = DebugLinks::read(bytes.as_slice());
    let id = links.build_id.expect("distributions link with --build-id");
    assert!(id.to_string().len() >= 16, "{id}");
    // Without section headers, too.
    let mut bare = bytes.clone();
    bare[40..48].fill(0);
    bare[60..64].fill(0);
    assert_eq!(DebugLinks::read(bare.as_slice()).build_id, Some(id));
    // Cut anywhere in its headers: never a panic.
    for end in (0..bytes.len()).step_by(997) {
        let _ = DebugLinks::read(&bytes[..end]);
    }
}

#[test]
fn compressed_names_that_are_damaged_or_too_many_are_an_error() {
    let packed = |bytes: &[u8]| DebugLinks {
        embedded: Some(bytes.to_vec()),
        ..DebugLinks::default()
    };
    assert!(DebugLinks::default().unpacked().is_none());
    assert!(packed(b"no xz").unpacked().unwrap().is_err());
    // `printf abc | xz`
    let abc = b"\xfd7zXZ\0\0\x04\xe6\xd6\xb4F\x02\0!\x01\x16\0\0\0t/\xe5\xa3\x01\0\x02abc\0";
    assert!(packed(abc).unpacked().unwrap().is_err(), "it is cut");
}
