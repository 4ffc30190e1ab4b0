use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::request::XdpMode;

/// What a [`crate::Loader`] needs to know of its host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Folder of bpffs (`fs`), `records`, `lock`, `queue`, `journal` and `reserve`. Made at the first `load`.
    pub runtime_dir: PathBuf,
    /// How many pauses of `lock_delay` to wait for the lock, in all.
    pub lock_retries: u32,
    /// One such pause.
    pub lock_delay: Duration,
    /// Interface name → mode of a new XDP chain on it.
    pub xdp_modes: BTreeMap<String, XdpMode>,
}

impl Config {
    /// The defaults for a runtime folder: the lock is waited for 10 × 1000 ms, no interface has a mode of its own.
    pub fn new(runtime_dir: impl Into<PathBuf>) -> Self {
        Self {
            runtime_dir: runtime_dir.into(),
            lock_retries: 10,
            lock_delay: Duration::from_millis(1000),
            xdp_modes: BTreeMap::new(),
        }
    }
}
