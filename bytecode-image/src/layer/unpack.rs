//! From a layer as it was sent to the tar in it, to the very end of both.

use std::io::Read;

use flate2::bufread::GzDecoder;

use super::frames::Frames;
use super::{LayerError, Packing};
use crate::digest::{Digest, VerifiedBytes};
use crate::limits::MAX_UNPACKED_BYTES;

/// Most members of an eStargz layer: 4096. It has one per file or 4 MiB, and two at the end.
const MAX_MEMBERS: usize = 4096;

/// Length of the last member of an eStargz layer, in bytes (stargz-snapshotter, docs/estargz.md, "Footer").
const ESTARGZ_FOOTER_BYTES: usize = 51;

/// The tar of a layer, whose digest is `expected` where that is known.
///
/// Docker, podman, buildah, kaniko and Jib write one gzip member. eStargz (BuildKit, nerdctl) writes several, and
/// `zstd:chunked` and pzstd write several zstd frames: they are read where the DiffID says what all of them unpack to.
pub(super) fn unpack(
    layer: &VerifiedBytes,
    packing: Packing,
    expected: Option<Digest>,
) -> Result<VerifiedBytes, LayerError> {
    let tar = match packing {
        Packing::Plain => layer.clone(),
        Packing::Gzip => VerifiedBytes::hash(gzip(layer, expected.is_some())?),
        Packing::Zstd => VerifiedBytes::hash(zstd(layer, expected.is_some())?),
    };
    check_length(tar.len())?;
    match expected {
        Some(expected) if expected != tar.digest() => Err(LayerError::DiffId {
            expected,
            found: tar.digest(),
        }),
        _ => Ok(tar),
    }
}

fn gzip(layer: &[u8], known: bool) -> Result<Vec<u8>, LayerError> {
    let several = known && is_estargz(layer);
    let (mut rest, mut tar) = (layer, Vec::new());
    for _ in 0..MAX_MEMBERS {
        let mut member = GzDecoder::new(rest);
        append(&mut member, &mut tar)?;
        rest = member.into_inner();
        if rest.is_empty() {
            return Ok(tar);
        }
        if !several {
            break;
        }
    }
    Err(LayerError::Trailing {
        what: "gzip stream",
        bytes: rest.len(),
    })
}

/// Whether it ends with an empty member whose header has the place of a table of contents.
fn is_estargz(layer: &[u8]) -> bool {
    let footer = layer
        .len()
        .checked_sub(ESTARGZ_FOOTER_BYTES)
        .and_then(|start| layer.get(start..));
    footer.is_some_and(|footer| {
        let has =
            |at: usize, text: &[u8]| footer.get(at..).is_some_and(|rest| rest.starts_with(text));
        // gzip with an extra field of 26 bytes: `SG`, 22 bytes, 16 hex digits, `STARGZ`.
        has(0, b"\x1f\x8b\x08\x04") && has(10, b"\x1a\x00SG\x16\x00") && has(32, b"STARGZ")
    })
}

fn zstd(layer: &[u8], known: bool) -> Result<Vec<u8>, LayerError> {
    let (mut frames, mut tar) = (Frames::new(layer), Vec::new());
    append(&mut frames, &mut tar)?;
    if frames.count() > 1 && !known {
        return Err(LayerError::Trailing {
            what: "zstd stream",
            bytes: layer.len(),
        });
    }
    Ok(tar)
}

/// Unpacks a stream to its end, up to the cap of all of them.
fn append(packed: &mut impl Read, tar: &mut Vec<u8>) -> Result<(), LayerError> {
    let left = MAX_UNPACKED_BYTES.saturating_sub(tar.len() as u64) + 1;
    let read = packed.take(left).read_to_end(tar);
    check_length(tar.len())?;
    read.map(drop).map_err(LayerError::Unpack)
}

fn check_length(bytes: usize) -> Result<(), LayerError> {
    match bytes as u64 > MAX_UNPACKED_BYTES {
        true => Err(LayerError::TooLarge {
            limit: MAX_UNPACKED_BYTES,
        }),
        false => Ok(()),
    }
}
