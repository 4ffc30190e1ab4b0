//! Debug files: the symbols that were stripped from a file, in another one.
//!
//! A file names its debug file by its build ID (`.note.gnu.build-id`) or by name and checksum (`.gnu_debuglink`), and
//! may carry the names of its functions compressed (`.gnu_debugdata`, "MiniDebugInfo"). Where they lie: "Debugging
//! Information in Separate Files" in GDB's manual.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use object::elf::{self, FileHeader32, FileHeader64};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};
use object::{Endian, Endianness, FileKind, ReadRef};

use super::symbol::{SymbolError, damaged, with_budget};

/// Folder of the debug files of a system.
const DEBUG_DIR: &str = "/usr/lib/debug";
/// Bytes of a section or segment of notes that are read: 64 KiB; a build ID has 36.
const MAX_NOTES_BYTES: u64 = 64 << 10;
/// Bytes of a build ID: 64. Linkers write 8 to 32, `--build-id=0x…` any number.
const MAX_BUILD_ID_BYTES: usize = 64;
/// Bytes of `.gnu_debuglink` that are read: 4 KiB, more than a file's name has.
const MAX_LINK_BYTES: u64 = 4 << 10;
/// Bytes of `.gnu_debugdata` that are read: 16 MiB; that of a browser has 2 MiB.
const MAX_EMBEDDED_BYTES: u64 = 16 << 20;
/// Bytes that `.gnu_debugdata` may unpack to: 128 MiB, as much as a table of symbols may have.
const MAX_UNPACKED_BYTES: u64 = 128 << 20;
/// Memory of the decoder, in KiB: 64 MiB, what `xz -9` asks for.
const MAX_DECODER_KIB: u32 = 64 << 10;
/// Bytes of a debug file whose checksum is computed: 1 GiB, a second or two. A larger one needs a build ID.
pub const MAX_CHECKED_BYTES: u64 = 1 << 30;

/// What a file says about its debug file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DebugLinks {
    /// Build ID.
    pub build_id: Option<BuildId>,
    /// Name and checksum of its debug file.
    pub link: Option<DebugLink>,
    /// `.gnu_debugdata`: an ELF file, compressed by xz.
    pub embedded: Option<Vec<u8>>,
}

/// A build ID: the same for a file and its debug file.
#[derive(Clone, PartialEq, Eq)]
pub struct BuildId(Vec<u8>);

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BuildId({self})")
    }
}

/// `.gnu_debuglink`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DebugLink {
    /// A file's name, without folders.
    pub name: PathBuf,
    /// CRC-32 of the debug file.
    pub checksum: u32,
}

/// What shows that a debug file belongs to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// The same build ID.
    BuildId,
    /// The checksum of `.gnu_debuglink`, and the same build ID where both have one.
    Checksum(u32),
}

/// Where a debug file may lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DebugPath {
    /// The path.
    pub path: PathBuf,
    /// What it must have.
    pub proof: Proof,
}

/// Why a debug file is not used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DebugFileError {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Read(#[from] io::Error),
    /// It is of another build.
    #[error("it belongs to another build: expected build ID {expected}, found {found}")]
    BuildId {
        /// Of the file.
        expected: BuildId,
        /// Of the debug file, or `none`.
        found: String,
    },
    /// It is another file than the one that was made with the file.
    #[error("it belongs to another build: expected checksum {expected:08x}, found {found:08x}")]
    Checksum {
        /// In `.gnu_debuglink`.
        expected: u32,
        /// Of the debug file.
        found: u32,
    },
    /// Too large for its checksum, and without a build ID.
    #[error(
        "it has {found} bytes and no build ID: the checksum of at most {limit} bytes is computed"
    )]
    TooLarge {
        /// Its size.
        found: u64,
        /// Bytes that are read.
        limit: u64,
    },
    /// It does not read as the debug file of the file.
    #[error(transparent)]
    Symbol(#[from] SymbolError),
}

/// What became of the search for a file's debug file.
#[derive(Debug, Default)]
pub struct DebugSearch {
    /// Paths where there is none, in the order of the search.
    pub absent: Vec<PathBuf>,
    /// Files that are not used, and why.
    pub refused: Vec<(PathBuf, DebugFileError)>,
}

impl fmt::Display for DebugSearch {
    /// Something to append to a message: empty when nothing was refused.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.refused.iter().try_for_each(|(path, error)| {
            write!(f, "; debug file {} is not used: {error}", path.display())
        })
    }
}

impl DebugLinks {
    /// Reads them. What is damaged is absent: the search goes on without it.
    pub fn read<'data, R: ReadRef<'data>>(data: R) -> Self {
        let read = with_budget(data, |data, kind| match kind {
            FileKind::Elf32 => read::<FileHeader32<Endianness>, _>(data),
            FileKind::Elf64 => read::<FileHeader64<Endianness>, _>(data),
            _ => Err(SymbolError::NotElf),
        });
        read.unwrap_or_default()
    }

    /// Where the debug file of a file may lie that has these paths (as given, and with its links followed).
    pub fn paths(&self, own: &[&Path]) -> Vec<DebugPath> {
        let mut paths = Vec::new();
        let mut add = |path: PathBuf, proof| paths.push(DebugPath { path, proof });
        if let Some(path) = self.build_id_path() {
            add(path, Proof::BuildId);
        }
        for own in own {
            let (Some(folder), Some(file)) = (own.parent(), own.file_name()) else {
                continue;
            };
            let mut named = |name: &OsStr, proof| {
                for folder in [
                    folder.to_owned(),
                    folder.join(".debug"),
                    in_debug_dir(folder),
                ] {
                    add(folder.join(name), proof);
                }
            };
            if let Some(link) = &self.link {
                named(link.name.as_os_str(), Proof::Checksum(link.checksum));
            }
            if self.build_id.is_some() {
                let mut name = file.to_owned();
                name.push(".debug");
                named(&name, Proof::BuildId);
                add(in_debug_dir(own), Proof::BuildId);
            }
        }
        let mut seen: BTreeSet<PathBuf> = own.iter().map(|own| own.to_path_buf()).collect();
        paths.retain(|found| seen.insert(found.path.clone()));
        paths
    }

    /// `/usr/lib/debug/.build-id/<first byte>/<other bytes>.debug`.
    pub fn build_id_path(&self) -> Option<PathBuf> {
        let text = self.build_id.as_ref()?.to_string();
        let (first, rest) = text.split_at_checked(2)?;
        if rest.is_empty() {
            return None;
        }
        Some(PathBuf::from(format!(
            "{DEBUG_DIR}/.build-id/{first}/{rest}.debug"
        )))
    }

    /// Whether a debug file, which says this of itself, belongs to the file that says `self`. `checksum` computes the
    /// debug file's, and gives `None` when it is too large for that.
    ///
    /// # Errors
    ///
    /// When it does not.
    pub fn check(
        &self,
        debug: &Self,
        proof: Proof,
        size: u64,
        checksum: impl FnOnce() -> io::Result<u32>,
    ) -> Result<(), DebugFileError> {
        let same = match (&self.build_id, &debug.build_id) {
            (Some(expected), Some(found)) if expected != found => {
                return Err(DebugFileError::BuildId {
                    expected: expected.clone(),
                    found: found.to_string(),
                });
            }
            (Some(_), Some(_)) => true,
            _ => false,
        };
        match (proof, &self.build_id) {
            (Proof::BuildId, Some(expected)) if !same => Err(DebugFileError::BuildId {
                expected: expected.clone(),
                found: "none".to_owned(),
            }),
            (Proof::BuildId, _) => Ok(()),
            (Proof::Checksum(_), _) if size > MAX_CHECKED_BYTES => match same {
                true => Ok(()),
                false => Err(DebugFileError::TooLarge {
                    found: size,
                    limit: MAX_CHECKED_BYTES,
                }),
            },
            (Proof::Checksum(expected), _) => match checksum()? {
                found if found == expected => Ok(()),
                found => Err(DebugFileError::Checksum { expected, found }),
            },
        }
    }

    /// `.gnu_debugdata`, unpacked; `None` when there is none.
    pub fn unpacked(&self) -> Option<io::Result<Vec<u8>>> {
        self.embedded.as_ref().map(|packed| {
            let decoder =
                lzma_rust2::XzReader::new_mem_limit(packed.as_slice(), false, MAX_DECODER_KIB);
            let mut bytes = Vec::new();
            let read = decoder
                .take(MAX_UNPACKED_BYTES + 1)
                .read_to_end(&mut bytes)?;
            match read as u64 > MAX_UNPACKED_BYTES {
                true => Err(io::ErrorKind::FileTooLarge.into()),
                false => Ok(bytes),
            }
        })
    }
}

/// `/usr/bin` → `/usr/lib/debug/usr/bin`.
fn in_debug_dir(path: &Path) -> PathBuf {
    Path::new(DEBUG_DIR).join(path.strip_prefix("/").unwrap_or(path))
}

fn read<'data, Elf, R>(data: R) -> Result<DebugLinks, SymbolError>
where
    Elf: FileHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    let header = Elf::parse(data).map_err(damaged("its header"))?;
    let endian = header.endian().map_err(damaged("its header"))?;
    let mut links = DebugLinks::default();
    if let Ok(sections) = header.sections(endian, data) {
        let content = |name: &[u8], limit: u64| {
            let (_, section) = sections.section_by_name(endian, name)?;
            if section.sh_size(endian).into() > limit {
                return None;
            }
            section.data(endian, data).ok()
        };
        links.link =
            content(b".gnu_debuglink", MAX_LINK_BYTES).and_then(|bytes| link(bytes, endian));
        links.embedded = content(b".gnu_debugdata", MAX_EMBEDDED_BYTES)
            .filter(|bytes| !bytes.is_empty())
            .map(<[u8]>::to_vec);
        links.build_id = sections
            .iter()
            .filter(|section| section.sh_size(endian).into() <= MAX_NOTES_BYTES)
            .filter_map(|section| section.notes(endian, data).ok()?)
            .find_map(|notes| build_id(notes, endian));
    }
    // A file whose section headers were stripped, too, has the note that is loaded.
    if links.build_id.is_none()
        && let Ok(segments) = header.program_headers(endian, data)
    {
        links.build_id = segments
            .iter()
            .filter(|segment| segment.p_filesz(endian).into() <= MAX_NOTES_BYTES)
            .filter_map(|segment| segment.notes(endian, data).ok()?)
            .find_map(|notes| build_id(notes, endian));
    }
    Ok(links)
}

fn build_id<Elf: FileHeader<Endian = Endianness>>(
    mut notes: object::read::elf::NoteIterator<'_, Elf>,
    endian: Endianness,
) -> Option<BuildId> {
    while let Ok(Some(note)) = notes.next() {
        let bytes = note.desc();
        if note.name() == elf::ELF_NOTE_GNU
            && note.n_type(endian) == elf::NT_GNU_BUILD_ID
            && (1..=MAX_BUILD_ID_BYTES).contains(&bytes.len())
        {
            return Some(BuildId(bytes.to_vec()));
        }
    }
    None
}

/// A name that ends in NUL, filled up to four bytes, and the checksum. A name with a folder in it is not followed.
fn link(bytes: &[u8], endian: Endianness) -> Option<DebugLink> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    let name = bytes.get(..end)?;
    if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') {
        return None;
    }
    let checksum = bytes.get(end.checked_add(1)?.checked_next_multiple_of(4)?..)?;
    let checksum = *checksum.first_chunk()?;
    Some(DebugLink {
        name: PathBuf::from(OsStr::from_bytes(name)),
        checksum: match endian.is_big_endian() {
            true => u32::from_be_bytes(checksum),
            false => u32::from_le_bytes(checksum),
        },
    })
}

#[cfg(test)]
mod tests;
