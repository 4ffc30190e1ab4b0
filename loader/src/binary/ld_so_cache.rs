//! `/etc/ld.so.cache`, which ldconfig(8) writes: where the libraries are that the dynamic linker finds by name.
//!
//! Format: `struct cache_file_new` and `struct file_entry_new` of glibc's `sysdeps/generic/dl-cache.h`. Caches from
//! before glibc 2.32 may have the old format, `struct cache_file`, before it; the new one then lies behind.

use super::library;

/// Bytes of a cache that are read: 64 MiB, some hundred times the cache of a full desktop.
pub const MAX_BYTES: u64 = 64 << 20;

const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const HEADER: usize = 48;
const ENTRY: usize = 24;
const OLD_MAGIC: &[u8] = b"ld.so-1.7.0\0";
const OLD_HEADER: usize = 16;
const OLD_ENTRY: usize = 12;

/// Byte order, in the low bits of the header's `flags`; 0 is a cache from before the field, in the machine's own.
const ORDER_BITS: u8 = 3;
const LITTLE: u8 = 2;
const BIG: u8 = 3;

/// Why a cache cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// Another format.
    #[error("it is no cache of glibc's dynamic linker")]
    Magic,
    /// Written for machines of the other byte order.
    #[error("it is for machines of the other byte order")]
    ByteOrder,
    /// A table or a text that lies outside of the file.
    #[error("it is damaged: {what}")]
    Damaged {
        /// Which one.
        what: &'static str,
    },
}

/// Paths of a library, in the order of the cache, those for every processor of the machine's kind before those that
/// ask for more of it (`glibc-hwcaps`). Libraries of other architectures that the machine runs are among them.
///
/// # Errors
///
/// When the bytes are no cache, or a damaged one.
pub fn find<'a>(cache: &'a [u8], wanted: &str) -> Result<Vec<&'a str>, CacheError> {
    let cache = new_format(cache)?;
    let flags = cache.get(28).copied().unwrap_or_default();
    let other = if cfg!(target_endian = "big") {
        LITTLE
    } else {
        BIG
    };
    if flags & ORDER_BITS == other {
        return Err(CacheError::ByteOrder);
    }
    let count = number(cache, 20)? as usize;
    let entries = count
        .checked_mul(ENTRY)
        .and_then(|length| cache.get(HEADER..HEADER.checked_add(length)?))
        .ok_or(CacheError::Damaged {
            what: "more libraries than it has room for",
        })?;
    let mut found = Vec::new();
    for entry in entries.chunks_exact(ENTRY) {
        let name = text(cache, number(entry, 4)?)?;
        if library::fits(name, wanted) {
            let special = number(entry, 16)? != 0 || number(entry, 20)? != 0;
            found.push((special, text(cache, number(entry, 8)?)?));
        }
    }
    found.sort_by_key(|(special, _)| *special);
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// The part in the new format: offsets of texts count from its start.
fn new_format(cache: &[u8]) -> Result<&[u8], CacheError> {
    if cache.starts_with(MAGIC) {
        return Ok(cache);
    }
    if !cache.starts_with(OLD_MAGIC) {
        return Err(CacheError::Magic);
    }
    let count = number(cache, 12)? as usize;
    let start = count
        .checked_mul(OLD_ENTRY)
        .and_then(|length| length.checked_add(OLD_HEADER))
        .and_then(|end| end.checked_next_multiple_of(8));
    let new = start.and_then(|start| cache.get(start..));
    new.filter(|new| new.starts_with(MAGIC))
        .ok_or(CacheError::Magic)
}

fn number(bytes: &[u8], at: usize) -> Result<u32, CacheError> {
    let bytes = bytes.get(at..).and_then(|bytes| bytes.first_chunk());
    let bytes = bytes.ok_or(CacheError::Damaged {
        what: "it ends in its header",
    })?;
    Ok(u32::from_ne_bytes(*bytes))
}

fn text(cache: &[u8], at: u32) -> Result<&str, CacheError> {
    let bytes = cache.get(at as usize..);
    let text = bytes.and_then(|bytes| bytes.split(|byte| *byte == 0).next());
    text.and_then(|text| std::str::from_utf8(text).ok())
        .ok_or(CacheError::Damaged {
            what: "a name that is not there",
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries of name, path and hwcap.
    fn cache(entries: &[(&str, &str, u64)]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        let mut texts = Vec::new();
        let base = HEADER + entries.len() * ENTRY;
        let mut rows = Vec::new();
        for (name, path, hwcap) in entries {
            rows.extend(0x303_u32.to_ne_bytes());
            for text in [name, path] {
                rows.extend(u32::try_from(base + texts.len()).unwrap().to_ne_bytes());
                texts.extend(text.as_bytes());
                texts.push(0);
            }
            rows.extend(0_u32.to_ne_bytes());
            rows.extend(hwcap.to_ne_bytes());
        }
        bytes.extend(u32::try_from(entries.len()).unwrap().to_ne_bytes());
        bytes.extend(u32::try_from(texts.len()).unwrap().to_ne_bytes());
        bytes.push(if cfg!(target_endian = "big") {
            BIG
        } else {
            LITTLE
        });
        bytes.resize(HEADER, 0);
        bytes.extend(rows);
        bytes.extend(texts);
        bytes
    }

    fn usual() -> Vec<u8> {
        cache(&[
            ("libz.so.1", "/lib/libz.so.1", 0),
            ("libc.so.6", "/lib/glibc-hwcaps/v3/libc.so.6", 1 << 62),
            ("libc.so.6", "/lib/x86_64-linux-gnu/libc.so.6", 0),
            ("libc.so.6", "/lib32/libc.so.6", 0),
        ])
    }

    #[test]
    fn libraries_are_found_by_name() {
        let libc = [
            "/lib/x86_64-linux-gnu/libc.so.6",
            "/lib32/libc.so.6",
            "/lib/glibc-hwcaps/v3/libc.so.6",
        ];
        let none: [&str; 0] = [];
        let cache = usual();
        for (wanted, expected) in [
            ("libc", &libc[..]),
            ("libc.so.6", &libc),
            ("libz", &["/lib/libz.so.1"]),
            ("libm", &none),
        ] {
            assert_eq!(find(&cache, wanted).unwrap(), expected, "{wanted}");
        }
    }

    #[test]
    fn an_old_cache_may_stand_before_the_new_one() {
        let mut bytes = OLD_MAGIC.to_vec();
        bytes.extend(1_u32.to_ne_bytes());
        bytes.extend([0; OLD_ENTRY]);
        bytes.resize(32, 0);
        bytes.extend(usual());
        assert_eq!(find(&bytes, "libz").unwrap(), ["/lib/libz.so.1"]);
        bytes.truncate(30);
        assert_eq!(find(&bytes, "libz"), Err(CacheError::Magic));
    }

    #[test]
    fn damage_is_an_error_wherever_it_is() {
        let whole = usual();
        let with = |at: usize, byte: u8| {
            let mut bytes = whole.clone();
            bytes[at] = byte;
            bytes
        };
        let other = if cfg!(target_endian = "big") {
            LITTLE
        } else {
            BIG
        };
        assert_eq!(find(&with(28, other), "libc"), Err(CacheError::ByteOrder));
        assert_eq!(find(&with(0, b'x'), "libc"), Err(CacheError::Magic));
        assert_eq!(find(b"", "libc"), Err(CacheError::Magic));
        for at in [20, 22, HEADER + 7, HEADER + ENTRY + 11] {
            let spoiled = with(at, 0xff);
            let found = find(&spoiled, "libc");
            assert!(
                matches!(found, Err(CacheError::Damaged { .. })),
                "{at}: {found:?}"
            );
        }
        // Cut anywhere: never a panic.
        for end in 0..whole.len() {
            let _ = find(&whole[..end], "libc");
        }
    }

    #[test]
    fn the_cache_of_this_machine_has_a_c_library() {
        let Ok(bytes) = std::fs::read("/etc/ld.so.cache") else {
            return;
        };
        let found = find(&bytes, "libc").unwrap();
        assert!(
            found.iter().any(|path| path.ends_with("/libc.so.6")),
            "{found:?}"
        );
    }
}
