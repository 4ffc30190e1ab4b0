use std::io::Write;

use object::Endianness;
use proptest::prelude::*;

use super::*;
use crate::limits::MAX_UNPACKED_BYTES;

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

fn read(bytes: &[u8], media_type: &str, tar: Option<&[u8]>) -> Result<LayerObject, LayerError> {
    let diff_ids = tar.map(|tar| vec![Digest::of(tar).to_string()]);
    let layer = VerifiedBytes::hash(bytes.to_vec());
    read_object(&layer, media_type, diff_ids.as_deref())
}

fn refused(bytes: &[u8], media_type: &str) -> String {
    text(read(bytes, media_type, None).unwrap_err())
}

fn text(error: LayerError) -> String {
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
    // zstd:chunked and pzstd write several frames, and skippable ones between and after; eStargz several members.
    let half = tar.len() / 2;
    let skipped = b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc";
    let frames = [
        &zstd(&tar[..half])[..],
        skipped,
        &zstd(&tar[half..]),
        skipped,
    ]
    .concat();
    let estargz = [gzip(&tar[..half]), gzip(&tar[half..]), estargz_footer()].concat();
    let mut named = flate2::GzBuilder::new()
        .filename("layer.tar")
        .comment("by hand")
        .extra("extra")
        .mtime(1)
        .write(Vec::new(), flate2::Compression::best());
    named.write_all(&tar).unwrap();
    let named = named.finish().unwrap();
    for (bytes, media_type) in [
        (tar.clone(), PLAIN),
        (gzip(&tar), GZIP),
        (gzip(&tar), DOCKER),
        (named, GZIP),
        (estargz, GZIP),
        (zstd(&tar), ZSTD),
        (frames, ZSTD),
    ] {
        let read = read(&bytes, media_type, Some(&tar)).unwrap();
        assert_eq!(
            (read.name.as_str(), &read.bytes),
            ("pass.o", &object),
            "{media_type}"
        );
        assert!(read.info.programs.contains_key("pass"));
    }
}

/// The last member of an eStargz layer.
fn estargz_footer() -> Vec<u8> {
    let footer = flate2::GzBuilder::new()
        .extra("SG\x16\x000000000000000400STARGZ")
        .write(Vec::new(), flate2::Compression::none());
    let footer = footer.finish().unwrap();
    assert_eq!(footer.len(), 51);
    footer
}

/// GNU tar pads to 10 KiB, other tools leave the end-of-archive mark out.
#[test]
fn padding_is_not_content() {
    let tar = tar_of(&[file("pass.o", &xdp())]);
    let unmarked = &tar[..tar.len() - 1024];
    let padded = [&tar[..], &[0; 10 << 10]].concat();
    for tar in [unmarked, &tar, &padded] {
        for (bytes, media_type) in [(tar.to_vec(), PLAIN), (gzip(tar), GZIP), (zstd(tar), ZSTD)] {
            read(&bytes, media_type, Some(tar)).unwrap();
            read(&bytes, media_type, None).unwrap();
        }
    }
}

/// A layer is cut off anywhere, or goes on after its end: with and without a DiffID.
#[test]
fn layers_end_where_they_end() {
    let tar = tar_of(&[file("pass.o", &xdp())]);
    let other = tar_of(&[file("other.o", b"hello")]);
    for (bytes, media_type) in [(gzip(&tar), GZIP), (zstd(&tar), ZSTD)] {
        for cut in [1, 4, 5, 8, 9, 30, 100, bytes.len() / 2, bytes.len() - 1] {
            let short = &bytes[..bytes.len() - cut];
            for tar in [None, Some(&tar[..])] {
                let error = text(read(short, media_type, tar).unwrap_err());
                assert!(
                    error.contains("cannot be unpacked"),
                    "{media_type} {cut}: {error}"
                );
            }
        }
        let garbage: [&[u8]; 5] = [
            b"\0",
            b"garbage",
            &[0; 512],
            &tar,
            &bytes[..bytes.len() - 1],
        ];
        for more in garbage {
            let long = [&bytes[..], more].concat();
            for tar in [None, Some(&tar[..])] {
                let error = text(read(&long, media_type, tar).unwrap_err());
                let expected = error.contains("goes on after the end of its gzip stream")
                    || error.contains("cannot be unpacked");
                assert!(expected, "{media_type} {more:?}: {error}");
            }
        }
        // A second member or frame, whatever is in it.
        for more in [&b""[..], &[0; 1024], &tar, &other] {
            let second = match media_type {
                GZIP => gzip(more),
                _ => zstd(more),
            };
            let long = [&bytes[..], &second].concat();
            let error = text(read(&long, media_type, None).unwrap_err());
            assert!(error.contains("goes on after the end of its "), "{error}");
            if media_type == GZIP || !more.is_empty() {
                let error = text(read(&long, media_type, Some(&tar)).unwrap_err());
                let expected = error.contains("goes on after the end of its gzip stream")
                    || error.contains("expected sha256:");
                assert!(expected, "{error}");
            }
        }
    }
    // Members of eStargz are refused without a DiffID, and with another one.
    let several = [gzip(&tar), gzip(&other), estargz_footer()].concat();
    assert!(refused(&several, GZIP).contains("goes on after the end of its gzip stream"));
    let error = text(read(&several, GZIP, Some(&tar)).unwrap_err());
    assert!(error.contains("the DiffID in its configuration"), "{error}");
    // A second archive that only some tools would read, with the DiffID of both.
    let both = [&tar[..], &other].concat();
    for (bytes, media_type) in [
        (both.clone(), PLAIN),
        (gzip(&both), GZIP),
        (zstd(&both), ZSTD),
    ] {
        let error = text(read(&bytes, media_type, Some(&both)).unwrap_err());
        assert!(
            error.contains("after the end of its tar archive"),
            "{error}"
        );
    }
}

#[test]
fn the_diff_id_decides() {
    let tar = tar_of(&[file("pass.o", &xdp())]);
    for (bytes, media_type) in [(tar.clone(), PLAIN), (gzip(&tar), GZIP), (zstd(&tar), ZSTD)] {
        let error = text(read(&bytes, media_type, Some(b"other")).unwrap_err());
        let expected = format!(
            "it unpacks to content with digest {}: expected {}, the DiffID in its configuration",
            Digest::of(&tar),
            Digest::of(b"other")
        );
        assert_eq!(error, expected);
        let layer = VerifiedBytes::hash(bytes);
        let cases: [(&[&str], &str); 4] = [
            (&[], "its configuration has 0 DiffIDs"),
            (
                &["sha256:00", "sha256:00"],
                "its configuration has 2 DiffIDs",
            ),
            (
                &["sha256:00"],
                "the DiffID in its configuration cannot be used",
            ),
            (
                &["sha512:00"],
                "the DiffID in its configuration cannot be used",
            ),
        ];
        for (diff_ids, expected) in cases {
            let diff_ids: Vec<String> = diff_ids.iter().map(ToString::to_string).collect();
            let error = read_object(&layer, media_type, Some(&diff_ids)).unwrap_err();
            assert!(error.to_string().starts_with(expected), "{error}");
        }
    }
}

/// The checksums of both formats are compared with what was unpacked.
#[test]
fn spoiled_checksums_are_refused() {
    let tar = tar_of(&[file("pass.o", &xdp())]);
    let mut packed = gzip(&tar);
    let at = packed.len() - 8;
    packed[at] ^= 1;
    assert!(refused(&packed, GZIP).contains("cannot be unpacked"));
    let mut packed = zstd(&tar);
    let at = packed.len() - 1;
    packed[at] ^= 1;
    assert!(refused(&packed, ZSTD).contains("cannot be unpacked"));
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
            let _ = read(&bytes, media_type, None);
            let _ = read(&bytes, media_type, Some(&tar));
        }
    }
}
