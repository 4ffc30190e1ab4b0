//! What every reader of these examples does: opens a map that bpfman has pinned, and adds up what the CPUs counted.

use std::path::PathBuf;

use aya::Pod;
use aya::maps::{Map, MapData, MapError, PerCpuArray};

/// Where bpfman pins the maps of a program, below its runtime folder: `fs/maps/<program id>/<map>`.
const PINS: &str = "fs/maps";

/// bpfman's runtime folder, and the variable that says another.
const RUNTIME: (&str, &str) = ("/run/bpfman", "BPFMAN_RUNTIME_DIR");

/// Why nothing was read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No program id on the command line.
    #[error("give the program's id, which `bpfman list programs` shows")]
    NoProgram,
    /// The map.
    #[error("reading {}", path.display())]
    Map {
        /// Its pin.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: MapError,
    },
}

/// Every entry of a per-CPU array of the program that the command line names: the values of all CPUs, added up by `add`.
///
/// # Errors
///
/// When no program is named, or it has no such map that this process may read.
pub fn entries<V: Pod + Default>(map: &str, add: fn(V, V) -> V) -> Result<Vec<V>, ReadError> {
    let program = std::env::args().nth(1).ok_or(ReadError::NoProgram)?;
    let runtime = std::env::var_os(RUNTIME.1).unwrap_or_else(|| RUNTIME.0.into());
    let path = PathBuf::from(runtime).join(PINS).join(program).join(map);
    let read = || {
        let data = MapData::from_pin(&path)?;
        let array: PerCpuArray<MapData, V> = Map::from_map_data(data)?.try_into()?;
        let entry = |index| {
            let values = array.get(&index, 0)?;
            Ok::<V, MapError>(values.iter().copied().fold(V::default(), add))
        };
        (0..array.len()).map(entry).collect::<Result<_, MapError>>()
    };
    read().map_err(|source| ReadError::Map {
        path: path.clone(),
        source,
    })
}
