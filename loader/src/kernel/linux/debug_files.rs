//! A function's place by the symbols of its file, or else by those of the file's debug file.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

use flate2::Crc;
use object::read::{ReadCache, ReadRef};

use super::KernelError;
use super::binary::Root;
use crate::binary::debug_file::{DebugFileError, DebugLinks, DebugPath, DebugSearch};
use crate::binary::symbol::{self, Function, SymbolError};
use crate::kernel::ProbeError;

/// Looks a function up in a file that was opened at `path` below `root`, of which `data` are the bytes.
pub(super) fn find<'data>(
    file: &File,
    data: impl ReadRef<'data>,
    path: &Path,
    root: &Root,
    name: &str,
) -> Result<Function, KernelError> {
    let error = match symbol::find(data, name) {
        Ok(function) => return Ok(function),
        Err(error @ (SymbolError::NoSuchFunction { .. } | SymbolError::Stripped { .. })) => error,
        Err(error) => return Err(failed(path, error, DebugSearch::default())),
    };
    let links = DebugLinks::read(data);
    let mut search = DebugSearch::default();
    let mut better = None;
    match embedded(&links, data, name) {
        None => {}
        Some(Ok(function)) => return Ok(function),
        Some(Err(error)) => search.refused.push((path.join(".gnu_debugdata"), error)),
    }
    let own = root.path_of(file);
    let own: Vec<&Path> = own.as_deref().into_iter().chain([path]).collect();
    let paths = links.paths(&own);
    // A container seldom has debug files; the host may have those of the same build.
    let on_host = match root {
        Root::Ours => None,
        Root::Container { .. } => paths
            .iter()
            .find(|found| Some(&found.path) == links.build_id_path().as_ref()),
    };
    let places = paths.iter().map(|found| (root, found));
    for (root, found) in places.chain(on_host.map(|found| (&Root::Ours, found))) {
        let debug = match root.open(&found.path) {
            Ok(Some(debug)) => File::from(debug),
            Ok(None) => {
                search.absent.push(found.path.clone());
                continue;
            }
            Err(error) => {
                let error = io::Error::other(error.to_string());
                search.refused.push((found.path.clone(), error.into()));
                continue;
            }
        };
        match in_debug_file(&links, data, found, debug, name) {
            Ok(function) => return Ok(function),
            // It is the right debug file, and knows every function.
            Err(DebugFileError::Symbol(error @ SymbolError::NoSuchFunction { .. })) => {
                better = Some(error);
                break;
            }
            Err(error) => search.refused.push((found.path.clone(), error)),
        }
    }
    Err(failed(path, better.unwrap_or(error), search))
}

fn failed(path: &Path, source: SymbolError, debug: DebugSearch) -> KernelError {
    let path = path.to_owned();
    ProbeError::Symbol {
        path,
        source,
        debug,
    }
    .into()
}

/// A function by `.gnu_debugdata`; `None` when there is none, or it does not have the function.
fn embedded<'data>(
    links: &DebugLinks,
    data: impl ReadRef<'data>,
    name: &str,
) -> Option<Result<Function, DebugFileError>> {
    let unpacked = match links.unpacked()? {
        Ok(unpacked) => unpacked,
        Err(error) => return Some(Err(error.into())),
    };
    match symbol::find_by_debug_file(data, unpacked.as_slice(), name) {
        Err(SymbolError::NoSuchFunction { .. } | SymbolError::Stripped { .. }) => None,
        found => Some(found.map_err(DebugFileError::from)),
    }
}

fn in_debug_file<'data>(
    links: &DebugLinks,
    data: impl ReadRef<'data>,
    found: &DebugPath,
    debug: File,
    name: &str,
) -> Result<Function, DebugFileError> {
    let size = debug.metadata()?.len();
    let debug_data = ReadCache::new(&debug);
    let own = DebugLinks::read(&debug_data);
    links.check(&own, found.proof, size, || checksum(&debug))?;
    Ok(symbol::find_by_debug_file(data, &debug_data, name)?)
}

/// The CRC-32 of `.gnu_debuglink`, which is zlib's.
fn checksum(mut file: &File) -> io::Result<u32> {
    file.rewind()?;
    let mut crc = Crc::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(crc.sum()),
            count => crc.update(buffer.get(..count).unwrap_or_default()),
        }
    }
}
