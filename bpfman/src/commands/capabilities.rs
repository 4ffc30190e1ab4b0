use loader::Loader;
use loader::kernel::linux::{LinuxKernel, missing_capabilities};

use crate::config::Config;
use crate::error::Error;

/// A loader for this host, once this process has what every command on the kernel needs.
pub(super) fn loader() -> Result<Loader<LinuxKernel>, Error> {
    let missing = missing_capabilities();
    if !missing.is_empty() {
        return Err(Error::Capabilities {
            missing: missing.join(", "),
        });
    }
    Ok(Loader::new(LinuxKernel::new(), Config::read()?.loader()))
}
