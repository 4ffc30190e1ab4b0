//! The embedded XDP dispatcher.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

use bytecode_object::ProgramType;

use super::{KernelError, LinuxKernel, load, sys};
use crate::kernel::{LoadAs, LoadSpec, ProgramSpec, XdpDispatcherConfig};
use crate::object::function_id;

/// Gives bytes the alignment that reading ELF in place wants.
#[repr(C, align(16))]
struct Aligned<T: ?Sized>(T);

static XDP_DISPATCHER: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(
    env!("OUT_DIR"),
    "/xdp_dispatcher.o"
)));

/// `xdp_dispatcher_config` of libxdp's protocol.
const MAGIC: u8 = 236;
const VERSION: u8 = 2;

pub(super) fn load_xdp(
    kernel: &LinuxKernel,
    config: &XdpDispatcherConfig,
) -> Result<OwnedFd, KernelError> {
    let globals = BTreeMap::from([("conf".to_owned(), bytes(config))]);
    let spec = LoadSpec {
        object: &XDP_DISPATCHER.0,
        programs: vec![ProgramSpec {
            function: "xdp_dispatcher",
            program_type: ProgramType::Xdp,
            attach_function: None,
            load_as: LoadAs::Plain,
        }],
        globals: &globals,
        shared_maps: BTreeMap::new(),
    };
    // The section says `xdp`; whether frags are taken is the chain's to say.
    let mut loaded = load::load_with(kernel, &spec, config.is_xdp_frags)?;
    loaded
        .programs
        .pop()
        .map(|program| program.handle)
        .ok_or_else(|| KernelError::NoSuchFunction {
            function: "xdp_dispatcher".to_owned(),
            available: Vec::new(),
        })
}

/// The configuration as it lies in `.rodata`.
fn bytes(config: &XdpDispatcherConfig) -> Vec<u8> {
    let mut out = vec![
        MAGIC,
        VERSION,
        config.num_progs_enabled,
        u8::from(config.is_xdp_frags),
    ];
    for words in [
        &config.chain_call_actions,
        &config.run_prios,
        &config.program_flags,
    ] {
        for word in words {
            out.extend_from_slice(&word.to_ne_bytes());
        }
    }
    out
}

/// Numbers of the functions in a program's BTF, read once for all ten slots.
#[derive(Debug, Default)]
pub(super) struct Functions {
    btf_id: u32,
    btf: Vec<u8>,
}

impl Functions {
    pub(super) fn find(&mut self, program: &OwnedFd, function: &str) -> Result<u32, KernelError> {
        let call = || format!("reading the functions of a dispatcher, for `{function}`");
        let info = sys::program_info(program.as_fd(), &mut []).map_err(super::failed(call))?;
        let none = || KernelError::NoSlot {
            function: function.to_owned(),
        };
        if info.btf_id == 0 {
            return Err(none());
        }
        if self.btf_id != info.btf_id {
            self.btf = sys::btf_by_id(info.btf_id).map_err(super::failed(call))?;
            self.btf_id = info.btf_id;
        }
        function_id(&self.btf, function)?.ok_or_else(none)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_laid_out_as_libxdp_reads_it() {
        let mut config = XdpDispatcherConfig {
            num_progs_enabled: 3,
            is_xdp_frags: true,
            chain_call_actions: [0x8000_0004; 10],
            run_prios: [50; 10],
            program_flags: [0; 10],
        };
        config.run_prios[9] = 1000;
        config.program_flags[0] = 1 << 5;
        let bytes = bytes(&config);
        assert_eq!(bytes.len(), 124);
        assert_eq!(bytes[..4], [236, 2, 3, 1]);
        assert_eq!(bytes[4..8], 0x8000_0004_u32.to_ne_bytes());
        assert_eq!(bytes[44..48], 50_u32.to_ne_bytes());
        assert_eq!(bytes[80..84], 1000_u32.to_ne_bytes());
        assert_eq!(bytes[84..88], 32_u32.to_ne_bytes());
        let object = crate::object::Object::parse(&XDP_DISPATCHER.0).unwrap();
        assert_eq!(object.variables()["conf"].size, 124);
        assert_eq!(object.variables()["conf"].offset, 0);
    }
}
