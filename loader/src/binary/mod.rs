//! Binaries of user space: which file a library's name means, and where in a file a function starts.
//!
//! Functions of bytes and texts that nobody vouches for (a container wrote them): no I/O, documented limits. The
//! files are opened in `kernel::linux`.

mod budget;
pub mod debug_file;
pub mod ld_so_cache;
pub mod library;
pub mod process_maps;
pub mod run_path;
mod segments;
pub mod symbol;
