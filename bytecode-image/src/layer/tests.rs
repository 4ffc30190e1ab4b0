use std::io::Write;

use object::Endianness;
use proptest::prelude::*;

use super::*;

#[path = "../../tests/registry/elf.rs"]
mod elf;

const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";
const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
const DOCKER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

fn xdp() -> Vec<u8> {
    elf::object_file(Endianness::Little, &[("xdp", "pass")])
}

/// A tar of entries, their paths written as they are.
fn tar_of(entries: &[(tar::EntryType, &str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (kind, path, bytes) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_old_mut().linkname[..1].copy_from_slice(b"x");
        header.set_cksum();
        builder.append(&header, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

fn file<'a>(path: &'a str, bytes: &'a [u8]) -> (tar::EntryType, &'a str, &'a [u8]) {
    (tar::EntryType::Regular, path, bytes)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

fn refused(bytes: &[u8], media_type: &str) -> String {
    let error = read_object(bytes, media_type).unwrap_err();
    let source = std::error::Error::source(&error)
        .map(|source| format!(": {source}"))
        .unwrap_or_default();
    format!("{error}{source}")
}

#[test]
fn one_object_in_every_packing() {
    let object = xdp();
    let tar = tar_of(&[
        (tar::EntryType::Directory, "./", b""),
        file("LICENSE", b"text"),
        file("./pass.o", &object),
    ]);
    // What follows the first frame or member counts: pigz and zstd:chunked write several, and skippable ones between.
    let half = tar.len() / 2;
    let mut frames = zstd(&tar[..half]);
    frames.extend_from_slice(b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc");
    frames.extend(zstd(&tar[half..]));
    let members = [gzip(&tar[..half]), gzip(&tar[half..])].concat();
    for (bytes, media_type) in [
        (tar.clone(), PLAIN),
        (gzip(&tar), GZIP),
        (gzip(&tar), DOCKER),
        (members, GZIP),
        (zstd(&tar), ZSTD),
        (frames, ZSTD),
    ] {
        let read = read_object(bytes.as_slice(), media_type).unwrap();
        assert_eq!(
            (read.name.as_str(), &read.bytes),
            ("pass.o", &object),
            "{media_type}"
        );
        assert!(read.info.programs.contains_key("pass"));
    }
}

#[test]
fn refused_contents() {
    let object = xdp();
    let truncated = &object[..object.len() / 2];
    let x86 = {
        let mut bytes = object.clone();
        bytes[18..20].copy_from_slice(&[62, 0]);
        bytes
    };
    type Entries<'a> = Vec<(tar::EntryType, &'a str, &'a [u8])>;
    let cases: Vec<(Entries<'_>, &str)> = vec![
        (vec![], "no eBPF object: there is no file in it"),
        (
            vec![file("README", b"hello")],
            "no eBPF object: README (not an ELF file)",
        ),
        (
            vec![file("empty.o", b"")],
            "no eBPF object: empty.o (the file is empty)",
        ),
        (
            vec![file("x86.o", &x86)],
            "no eBPF object: x86.o (an ELF file for",
        ),
        (vec![file("half.o", truncated)], "no eBPF object: half.o ("),
        (
            vec![file("a.o", &object), file("b/c.o", &object)],
            "more than one eBPF object: a.o, b/c.o",
        ),
        (vec![file("../a.o", &object)], "`../a.o` that points out"),
        (vec![file("a/../../b.o", &object)], "points out"),
        (vec![file("/a.o", &object)], "`/a.o` that points out"),
        (
            vec![file("a.o", &object), (tar::EntryType::Symlink, "b.o", b"")],
            "`b.o`, which is a symbolic link",
        ),
        (vec![(tar::EntryType::Link, "b.o", b"")], "a hard link"),
        (vec![(tar::EntryType::Char, "dev/null", b"")], "a device"),
        (vec![(tar::EntryType::Block, "b", b"")], "a device"),
        (vec![(tar::EntryType::Fifo, "b", b"")], "a pipe"),
        (
            vec![(tar::EntryType::new(b'Z'), "b", b"")],
            "of an unknown kind",
        ),
        (
            vec![file("a\u{1b}[2J.o", b"")],
            "no eBPF object: a[2J.o (the file is empty)",
        ),
        (
            vec![file("a", b""); MAX_LAYER_ENTRIES + 1],
            "more than 256 files",
        ),
    ];
    for (entries, message) in cases {
        let tar = tar_of(&entries);
        let error = refused(&gzip(&tar), GZIP);
        assert!(error.contains(message), "{message}: {error}");
        assert_eq!(refused(&tar, PLAIN), error);
    }
}

#[test]
fn refused_packings() {
    let tar = tar_of(&[file("pass.o", &xdp())]);
    let packed = gzip(&tar);
    assert!(refused(&tar, "text/plain").contains("media type is `text/plain`"));
    assert!(refused(&tar, GZIP).contains("cannot be unpacked"));
    assert!(refused(&packed, ZSTD).contains("cannot be unpacked"));
    assert!(refused(&packed[..packed.len() / 2], GZIP).contains("cannot be unpacked"));
    assert!(refused(&zstd(&tar)[..40], ZSTD).contains("cannot be unpacked"));
    assert!(refused(&tar[..600], PLAIN).contains("cannot be unpacked"));
    assert!(refused(b"", PLAIN).contains("no file in it"));
}

#[test]
fn bombs_cost_no_more_than_their_cap() {
    // A header that announces more than any object has, though little follows.
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..3].copy_from_slice(b"a.o");
    header.set_size(1 << 40);
    header.set_cksum();
    assert!(refused(header.as_bytes(), PLAIN).contains("more than the 33554432 bytes"));

    // A folder with content that nobody reads, and a name of many pages: both are zeros, and pack a thousandfold.
    let zeros = vec![0; MAX_UNPACKED_BYTES as usize + 1];
    for kind in [
        tar::EntryType::Directory,
        tar::EntryType::GNULongName,
        tar::EntryType::XHeader,
    ] {
        let tar = tar_of(&[(kind, "a", &zeros), file("pass.o", &xdp())]);
        for (bytes, media_type) in [(gzip(&tar), GZIP), (zstd(&tar), ZSTD)] {
            assert!(bytes.len() < zeros.len() / 100);
            let error = refused(&bytes, media_type);
            assert!(
                error.contains("unpacks to more than the 34603008 bytes"),
                "{kind:?}: {error}"
            );
        }
    }
}

proptest! {
    #[test]
    fn damaged_layers_never_panic(at in 0usize..4096, value: u8, cut in 0usize..4096) {
        let tar = tar_of(&[file("pass.o", &xdp())]);
        for (mut bytes, media_type) in [(tar.clone(), PLAIN), (gzip(&tar), GZIP), (zstd(&tar), ZSTD)] {
            let length = bytes.len();
            bytes[at % length] = value;
            bytes.truncate(length - cut % length);
            let _ = read_object(bytes.as_slice(), media_type);
        }
    }
}
