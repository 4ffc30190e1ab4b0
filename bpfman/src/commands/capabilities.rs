use bytecode_object::ProgramType;
use loader::Loader;
use loader::kernel::linux::{Capability, LinuxKernel, missing_capabilities};

use crate::config::Config;
use crate::error::Error;

/// `list` and `get`: programs are walked and opened by id.
pub(super) const READ: [Capability; 1] = [Capability::SysAdmin];
/// `detach` and `unload`: what is left of an XDP chain is loaded anew.
pub(super) const REMOVE: [Capability; 3] =
    [Capability::Bpf, Capability::Perfmon, Capability::NetAdmin];

/// `doctor --repair`: all that the others need.
pub(super) const REPAIR: [Capability; 4] = [
    Capability::Bpf,
    Capability::Perfmon,
    Capability::NetAdmin,
    Capability::SysAdmin,
];

/// `load` of programs of these types.
pub(super) fn to_load(types: impl Iterator<Item = ProgramType>) -> Vec<Capability> {
    // Perfmon for packet programs too: in a chain they are EXT programs, which the kernel counts as tracing.
    let mut needed = vec![Capability::Bpf, Capability::Perfmon];
    if types.into_iter().any(is_network) {
        needed.push(Capability::NetAdmin);
    }
    // Mounting bpffs.
    needed.push(Capability::SysAdmin);
    needed
}

/// `attach` to a hook of this type.
pub(super) fn to_attach(hook: ProgramType) -> Vec<Capability> {
    let mut needed = vec![Capability::Bpf, Capability::Perfmon];
    if is_network(hook) {
        needed.push(Capability::NetAdmin);
    }
    needed
}

fn is_network(kind: ProgramType) -> bool {
    matches!(kind, ProgramType::Tc | ProgramType::Tcx | ProgramType::Xdp)
}

/// A loader for this host, once this process is known to have the capabilities needed.
pub(super) fn loader(needed: &[Capability], config: &Config) -> Result<Loader<LinuxKernel>, Error> {
    let missing = missing_capabilities(needed);
    if !missing.is_empty() {
        return Err(Error::Capabilities {
            missing: missing.join(", "),
        });
    }
    Ok(Loader::new(LinuxKernel::new(), config.loader()))
}
