//! `/proc/<pid>/maps` (proc_pid_maps(5)): the files that a process has mapped.

use super::library;

/// Bytes of `/proc/<pid>/maps` that are read: 64 MiB, some five times what the usual limit of 65530 mappings takes.
pub const MAX_BYTES: u64 = 64 << 20;

/// A mapped file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapping<'a> {
    /// First address.
    pub start: u64,
    /// Address after the last one.
    pub end: u64,
    /// The file's path as the kernel wrote it, ` (deleted)` taken off.
    pub path: &'a str,
}

/// The first mapping of a library. Lines that do not read as mappings of files are passed over.
pub fn find<'a>(maps: &'a str, wanted: &str) -> Option<Mapping<'a>> {
    maps.lines()
        .filter_map(mapping)
        .find(|mapping| library::fits(file_name(mapping.path), wanted))
}

/// `start-end perms offset device inode path`, addresses in hex.
fn mapping(line: &str) -> Option<Mapping<'_>> {
    let (range, _) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let path = line.get(line.find('/')?..)?;
    Some(Mapping {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        path: path.strip_suffix(" (deleted)").unwrap_or(path),
    })
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
00400000-00401000 r-xp 00000000 fe:00 11     /opt/my app/run
7f5c8a400000-7f5c8a428000 r--p 00000000 fe:00 1234                       /usr/lib/x86_64-linux-gnu/libc.so.6
7f5c8a428000-7f5c8a590000 r-xp 00028000 fe:00 1234                       /usr/lib/x86_64-linux-gnu/libc.so.6
7f5c8a600000-7f5c8a601000 rw-p 00000000 00:00 0
7f5c8a601000-7f5c8a602000 r-xp 00000000 fe:00 77                         /opt/libold.so.1 (deleted)
7ffd1000-7ffd2000 rw-p 00000000 00:00 0                                  [stack]
nonsense /libnothing.so
zz-yy r-xp 00000000 fe:00 1 /libhex.so
";

    #[test]
    fn a_library_is_found_by_its_first_mapping() {
        for (wanted, expected) in [
            (
                "libc",
                Some((0x7f5c_8a40_0000, "/usr/lib/x86_64-linux-gnu/libc.so.6")),
            ),
            ("libold.so.1", Some((0x7f5c_8a60_1000, "/opt/libold.so.1"))),
            ("run", Some((0x40_0000, "/opt/my app/run"))),
            ("libnothing", None),
            ("libhex", None),
            ("[stack]", None),
            ("libm", None),
        ] {
            let found = find(MAPS, wanted).map(|mapping| (mapping.start, mapping.path));
            assert_eq!(found, expected, "{wanted}");
        }
    }
}
