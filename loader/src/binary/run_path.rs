//! Folders where a dynamic linker looks for libraries when its cache does not help (ld.so(8), musl's `dynlink.c`).

use std::cmp::Reverse;
use std::path::{Path, PathBuf};

use object::elf::{self, FileHeader32, FileHeader64};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::{Endianness, FileKind, ReadRef};

use super::library;
use super::symbol::{SymbolError, damaged, with_budget};

/// Folders that every linker looks in: glibc's and musl's built-in ones.
pub const DEFAULT_DIRS: [&str; 5] = ["/lib", "/usr/lib", "/lib64", "/usr/lib64", "/usr/local/lib"];
/// Default folders that may have one folder per architecture in them (`x86_64-linux-gnu`, Debian's multiarch).
pub const MULTIARCH_DIRS: [&str; 2] = ["/lib", "/usr/lib"];
/// Folder of musl's own lists of folders.
pub const MUSL_PATH_DIR: &str = "/etc";
/// Bytes of such a list that are read: 64 KiB; it has a line or two.
pub const MAX_MUSL_PATH_BYTES: u64 = 64 << 10;
/// Folders of `DT_RPATH`, `DT_RUNPATH` or a list of musl's that are looked in: 64.
pub const MAX_DIRS: usize = 64;
/// Bytes of a text in the table of names: 64 KiB.
const MAX_TEXT_BYTES: u64 = 64 << 10;
/// Entries of `PT_DYNAMIC` that are read: 4096; programs have about thirty.
const MAX_DYNAMIC: usize = 4 << 10;

/// `DT_RPATH` and `DT_RUNPATH` of an ELF file, as they are written in it; none in a damaged one.
pub fn read<'data, R: ReadRef<'data>>(data: R) -> Vec<String> {
    let read = with_budget(data, |data, kind| match kind {
        FileKind::Elf32 => run_paths::<FileHeader32<Endianness>, _>(data),
        FileKind::Elf64 => run_paths::<FileHeader64<Endianness>, _>(data),
        _ => Err(SymbolError::NotElf),
    });
    read.unwrap_or_default()
}

fn run_paths<'data, Elf, R>(data: R) -> Result<Vec<String>, SymbolError>
where
    Elf: FileHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    let header = Elf::parse(data).map_err(damaged("its header"))?;
    let endian = header.endian().map_err(damaged("its header"))?;
    let segments = header
        .program_headers(endian, data)
        .map_err(damaged("its program headers"))?;
    let mut dynamic = segments.iter().filter_map(|segment| {
        let entries = segment.dynamic(endian, data).ok()?;
        entries.map(|entries| entries.iter().take(MAX_DYNAMIC))
    });
    let (mut strings, mut texts) = (None, Vec::new());
    for entry in dynamic.next().into_iter().flatten() {
        let value: u64 = entry.d_val(endian).into();
        match entry.d_tag(endian) {
            elf::DT_NULL => break,
            elf::DT_STRTAB => strings = Some(value),
            elf::DT_RPATH | elf::DT_RUNPATH => texts.push(value),
            _ => {}
        }
    }
    let Some(strings) = strings else {
        return Ok(Vec::new());
    };
    let text = |at: u64| {
        let address = strings.checked_add(at)?;
        let (place, left) = segments.iter().find_map(|segment| {
            let into = address.checked_sub(segment.p_vaddr(endian).into())?;
            let left = Into::<u64>::into(segment.p_filesz(endian)).checked_sub(into)?;
            let load = segment.p_type(endian) == elf::PT_LOAD && left > 0;
            load.then_some((into.checked_add(segment.p_offset(endian).into())?, left))
        })?;
        let end = place.checked_add(left.min(MAX_TEXT_BYTES))?;
        let text = data.read_bytes_at_until(place..end, 0).ok()?;
        std::str::from_utf8(text).ok()
    };
    let texts = texts.into_iter().take(MAX_DIRS).filter_map(text);
    Ok(texts.map(str::to_owned).collect())
}

/// The folders that a path of an ELF file names. `$ORIGIN` is the file's own folder; `$LIB` and `$PLATFORM` stand for
/// every value that they have on common systems. Folders relative to a working directory are skipped.
pub fn folders(run_paths: &[String], origin: &Path) -> Vec<PathBuf> {
    let arch = std::env::consts::ARCH;
    let multiarch = format!("lib/{arch}-linux-gnu");
    let origin = origin.to_str();
    let mut found = Vec::new();
    for folder in run_paths.iter().flat_map(|path| path.split(':')) {
        let folder = folder.replace("${", "$").replace('}', "");
        let folder = folder.replace("$PLATFORM", arch);
        let folder = match origin {
            Some(origin) => folder.replace("$ORIGIN", origin),
            None => folder,
        };
        let variants = match folder.contains("$LIB") {
            true => vec!["lib64", &multiarch, "lib"],
            false => vec![""],
        };
        for lib in variants {
            let folder = folder.replace("$LIB", lib);
            if folder.starts_with('/') && !folder.contains(['$', '\0']) && found.len() < MAX_DIRS {
                found.push(PathBuf::from(folder));
            }
        }
    }
    found
}

/// Whether a file of `/etc` is a list of folders of musl's: `ld-musl-x86_64.path`.
pub fn is_musl_path(file: &str) -> bool {
    file.starts_with("ld-musl-") && file.ends_with(".path")
}

/// The folders in such a list, one per line or with colons between them.
pub fn musl_folders(list: &str) -> Vec<PathBuf> {
    let folders = list
        .split(['\n', ':'])
        .filter(|folder| folder.starts_with('/'));
    folders.take(MAX_DIRS).map(PathBuf::from).collect()
}

/// Whether a folder's name is that of an architecture: `x86_64-linux-gnu`, `aarch64-linux-musl`.
pub fn is_multiarch(folder: &str) -> bool {
    folder.split_once("-linux-").is_some_and(|(arch, abi)| {
        let word = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        !arch.is_empty() && !abi.is_empty() && word(arch) && word(abi)
    })
}

/// The files of a folder that can be a library, the likeliest first: the very name, then the newest version.
pub fn choose(mut files: Vec<String>, wanted: &str) -> Vec<String> {
    files.retain(|file| library::fits(file, wanted));
    files.sort_by_cached_key(|file| {
        let unversioned = file == wanted || file.strip_prefix(wanted) == Some(".so");
        (!unversioned, Reverse(numbers(file)), file.clone())
    });
    files
}

/// The numbers in a file's name, in their order.
fn numbers(file: &str) -> Vec<u64> {
    let numbers = file.split(|c: char| !c.is_ascii_digit());
    numbers.filter_map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_a_run_path_are_absolute_and_expanded() {
        let arch = std::env::consts::ARCH;
        let multiarch = format!("/o/lib/{arch}-linux-gnu");
        for (text, expected) in [
            ("/a:/b", vec!["/a", "/b"]),
            ("$ORIGIN/../lib", vec!["/o/../lib"]),
            ("${ORIGIN}", vec!["/o"]),
            ("$ORIGIN/$LIB", vec!["/o/lib64", &multiarch, "/o/lib"]),
            (":relative:.:", vec![]),
            ("/a/$OTHER", vec![]),
            ("", vec![]),
        ] {
            let found = folders(&[text.to_owned()], Path::new("/o"));
            let expected: Vec<_> = expected.iter().map(PathBuf::from).collect();
            assert_eq!(found, expected, "{text}");
        }
        let many = vec!["/a:".repeat(1000)];
        assert_eq!(folders(&many, Path::new("/o")).len(), MAX_DIRS);
    }

    #[test]
    fn lists_of_musl_have_lines_or_colons() {
        let found = musl_folders("/lib:/opt/lib\n/usr/lib\nrelative\n\n");
        let expected: Vec<_> = ["/lib", "/opt/lib", "/usr/lib"]
            .iter()
            .map(PathBuf::from)
            .collect();
        assert_eq!(found, expected);
        assert!(is_musl_path("ld-musl-x86_64.path"));
        assert!(!is_musl_path("ld.so.conf"));
    }

    #[test]
    fn architecture_folders_are_known_by_their_names() {
        for (folder, expected) in [
            ("x86_64-linux-gnu", true),
            ("arm-linux-gnueabihf", true),
            ("aarch64-linux-musl", true),
            ("-linux-gnu", false),
            ("systemd", false),
            ("x-linux-g/../..", false),
        ] {
            assert_eq!(is_multiarch(folder), expected, "{folder}");
        }
    }

    #[test]
    fn the_newest_version_of_a_library_goes_first() {
        let files = [
            "libx.so.9",
            "libx.so.10",
            "libx.a",
            "liby.so",
            "libx.so.10.1",
        ];
        let files = files.map(str::to_owned).to_vec();
        assert_eq!(
            choose(files.clone(), "libx"),
            ["libx.so.10.1", "libx.so.10", "libx.so.9"]
        );
        assert_eq!(choose(files.clone(), "libx.so.9"), ["libx.so.9"]);
        let mut files = files;
        files.push("libx.so".to_owned());
        assert_eq!(
            choose(files, "libx").first().map(String::as_str),
            Some("libx.so")
        );
    }
}
