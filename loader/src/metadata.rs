//! Caps on the metadata of programs and links, which records, lists and scripts carry around.

use std::collections::BTreeMap;

/// Longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 256;
/// Longest value, in bytes: a path (`PATH_MAX`).
pub const MAX_VALUE_BYTES: usize = 4096;
/// All keys and values of a program or link, in bytes.
pub const MAX_TOTAL_BYTES: usize = 64 << 10;

/// Why metadata is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// A key that is too long.
    #[error("the metadata key `{start}…` has {found} bytes, the most is {MAX_KEY_BYTES}")]
    Key {
        /// Its first characters.
        start: String,
        /// Its length.
        found: usize,
    },
    /// A value that is too long.
    #[error(
        "the value of the metadata key `{key}` has {found} bytes, the most is {MAX_VALUE_BYTES}"
    )]
    Value {
        /// Its key.
        key: String,
        /// Its length.
        found: usize,
    },
    /// More than all may have.
    #[error("keys and values of the metadata have {found} bytes, the most is {MAX_TOTAL_BYTES}")]
    Total {
        /// Their length.
        found: usize,
    },
}

/// Checks metadata against the caps.
///
/// # Errors
///
/// [`MetadataError`], for the first that is too long.
pub fn check(metadata: &BTreeMap<String, String>) -> Result<(), MetadataError> {
    let mut total = 0_usize;
    for (key, value) in metadata {
        if key.len() > MAX_KEY_BYTES {
            return Err(MetadataError::Key {
                start: key.chars().take(32).collect(),
                found: key.len(),
            });
        }
        if value.len() > MAX_VALUE_BYTES {
            return Err(MetadataError::Value {
                key: key.clone(),
                found: value.len(),
            });
        }
        total = total.saturating_add(key.len()).saturating_add(value.len());
    }
    if total > MAX_TOTAL_BYTES {
        return Err(MetadataError::Total { found: total });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_up_to_the_caps_is_taken() {
        let one = |key: usize, value: usize| BTreeMap::from([("k".repeat(key), "v".repeat(value))]);
        // Of pairs with keys of 4 bytes.
        let many = |pairs: usize, value: usize| -> BTreeMap<String, String> {
            let pair = |number: usize| (format!("{number:04}"), "v".repeat(value));
            (0..pairs).map(pair).collect()
        };
        for (metadata, expected) in [
            (one(256, 4096), Ok(())),
            (
                one(257, 1),
                Err(MetadataError::Key {
                    start: "k".repeat(32),
                    found: 257,
                }),
            ),
            (
                one(1, 4097),
                Err(MetadataError::Value {
                    key: "k".to_owned(),
                    found: 4097,
                }),
            ),
            (many(16, 4092), Ok(())),
            (many(17, 4092), Err(MetadataError::Total { found: 69_632 })),
        ] {
            assert_eq!(check(&metadata), expected);
        }
    }
}
