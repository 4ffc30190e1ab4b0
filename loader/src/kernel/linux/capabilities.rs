use rustix::thread::CapabilitySet;

/// A capability that some command needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// Loading programs and making maps (kernel 5.8).
    Bpf,
    /// Tracing programs and perf events (kernel 5.8).
    Perfmon,
    /// Programs on interfaces.
    NetAdmin,
    /// Mounting bpffs, opening objects by id, entering a network namespace.
    SysAdmin,
}

impl Capability {
    /// `CAP_…`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bpf => "CAP_BPF",
            Self::Perfmon => "CAP_PERFMON",
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::SysAdmin => "CAP_SYS_ADMIN",
        }
    }

    /// Capabilities each of which is enough (`bpf_capable`, `perfmon_capable` of `include/linux/capability.h`).
    fn met_by(self) -> CapabilitySet {
        match self {
            Self::Bpf => CapabilitySet::BPF | CapabilitySet::SYS_ADMIN,
            Self::Perfmon => CapabilitySet::PERFMON | CapabilitySet::SYS_ADMIN,
            Self::NetAdmin => CapabilitySet::NET_ADMIN,
            Self::SysAdmin => CapabilitySet::SYS_ADMIN,
        }
    }
}

/// Names of those that the calling thread has not (capget(2), the effective set), in the order asked. When the kernel
/// does not say, none: then the step itself will fail.
pub fn missing_capabilities(needed: &[Capability]) -> Vec<&'static str> {
    match rustix::thread::capabilities(None) {
        Ok(sets) => missing(needed, sets.effective),
        Err(_) => Vec::new(),
    }
}

fn missing(needed: &[Capability], effective: CapabilitySet) -> Vec<&'static str> {
    let lacking = needed
        .iter()
        .filter(|needed| !effective.intersects(needed.met_by()));
    lacking.map(|needed| needed.name()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use Capability::{Bpf, NetAdmin, Perfmon, SysAdmin};

    #[test]
    fn sys_admin_stands_for_bpf_and_perfmon_only() {
        let all = [Bpf, Perfmon, NetAdmin, SysAdmin];
        let cases: [(CapabilitySet, &[&str]); 4] = [
            (
                CapabilitySet::empty(),
                &["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN", "CAP_SYS_ADMIN"],
            ),
            (CapabilitySet::SYS_ADMIN, &["CAP_NET_ADMIN"]),
            (
                CapabilitySet::BPF | CapabilitySet::NET_ADMIN,
                &["CAP_PERFMON", "CAP_SYS_ADMIN"],
            ),
            (CapabilitySet::all(), &[]),
        ];
        for (effective, expected) in cases {
            assert_eq!(missing(&all, effective), expected, "{effective:?}");
        }
    }
}
