//! The embedded dispatchers.

use bytecode_object::btf::{find, kind};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::os::fd::{AsFd, OwnedFd};

use bytecode_object::ProgramType;

use super::load::HOST;
use super::{KernelError, LinuxKernel, load, sys};
use crate::kernel::{
    DispatcherConfig, LoadAs, LoadSpec, ProgramSpec, TcDispatcherConfig, XdpDispatcherConfig,
};

use crate::object::NormaliseError;

/// Gives bytes the alignment that reading ELF in place wants.
#[repr(C, align(16))]
struct Aligned<T: ?Sized>(T);

static XDP_DISPATCHER: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(
    env!("OUT_DIR"),
    "/xdp_dispatcher.o"
)));

static TC_DISPATCHER: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(
    env!("OUT_DIR"),
    "/tc_dispatcher.o"
)));

/// `xdp_dispatcher_config` of libxdp's protocol.
const MAGIC: u8 = 236;
const VERSION: u8 = 2;

pub(super) fn load(
    kernel: &LinuxKernel,
    config: &DispatcherConfig,
) -> Result<OwnedFd, KernelError> {
    let function = config.function();
    let (object, program_type, frags, conf) = match config {
        DispatcherConfig::Xdp(config) => (
            &XDP_DISPATCHER.0,
            ProgramType::Xdp,
            // The section says `xdp`; whether frags are taken is the chain's to say.
            config.is_xdp_frags,
            xdp_bytes(config),
        ),
        DispatcherConfig::Tc(config) => {
            (&TC_DISPATCHER.0, ProgramType::Tc, false, tc_bytes(config))
        }
    };
    let globals = BTreeMap::from([("conf".to_owned(), conf)]);
    let spec = LoadSpec {
        object,
        programs: vec![ProgramSpec {
            function,
            program_type,
            attach_function: None,
            load_as: LoadAs::Plain,
        }],
        globals: &globals,
        shared_maps: BTreeMap::new(),
    };
    let (mut loaded, btf) = load::load_with(kernel, &spec, frags)?;
    let program = loaded.programs.pop();
    let program = program.ok_or_else(|| KernelError::NoSuchFunction {
        function: function.to_owned(),
        available: Vec::new(),
    })?;
    if let Some(btf) = btf {
        kernel.has_functions(&program.handle, btf)?;
    }
    Ok(program.handle)
}

/// The configuration as it lies in `.rodata`.
fn xdp_bytes(config: &XdpDispatcherConfig) -> Vec<u8> {
    let head = [
        MAGIC,
        VERSION,
        config.num_progs_enabled,
        u8::from(config.is_xdp_frags),
    ];
    with_words(
        head,
        &[
            &config.chain_call_actions,
            &config.run_prios,
            &config.program_flags,
        ],
    )
}

/// The configuration as it lies in `.rodata`.
fn tc_bytes(config: &TcDispatcherConfig) -> Vec<u8> {
    let head = [config.num_progs_enabled, 0, 0, 0];
    with_words(head, &[&config.chain_call_actions, &config.run_prios])
}

fn with_words(head: [u8; 4], tables: &[&[u32; 10]]) -> Vec<u8> {
    let words = tables.iter().flat_map(|table| table.iter());
    let mut out = head.to_vec();
    out.extend(words.flat_map(|word| word.to_ne_bytes()));
    out
}

/// BTF of dispatchers, by its id: the numbers of the functions are in it. That of those that this process loaded is
/// known; to ask for another's takes CAP_SYS_ADMIN.
#[derive(Debug, Default)]
pub(super) struct Functions(BTreeMap<u32, Vec<u8>>);

impl Functions {
    pub(super) fn add(&mut self, program: &OwnedFd, btf: Vec<u8>) -> Result<(), KernelError> {
        let call = || "reading the id of a dispatcher's types".to_owned();
        let info = sys::program_info(program.as_fd(), &mut []).map_err(super::failed(call))?;
        self.0.insert(info.btf_id, btf);
        Ok(())
    }

    pub(super) fn find(&mut self, program: &OwnedFd, function: &str) -> Result<u32, KernelError> {
        let call = || format!("reading the functions of a dispatcher, for `{function}`");
        let info = sys::program_info(program.as_fd(), &mut []).map_err(super::failed(call))?;
        let none = || KernelError::NoSlot {
            function: function.to_owned(),
        };
        if info.btf_id == 0 {
            return Err(none());
        }
        let btf = match self.0.entry(info.btf_id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                place.insert(sys::btf_by_id(info.btf_id).map_err(super::failed(call))?)
            }
        };
        let id = find(btf, HOST, kind::FUNC, function).map_err(NormaliseError::from)?;
        id.ok_or_else(none)
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
        let bytes = xdp_bytes(&config);
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

    #[test]
    fn the_configuration_of_tc_is_laid_out_as_its_source_has_it() {
        let mut config = TcDispatcherConfig {
            num_progs_enabled: 2,
            chain_call_actions: [0x8000_0012; 10],
            run_prios: [50; 10],
        };
        config.run_prios[9] = 1000;
        let bytes = tc_bytes(&config);
        assert_eq!(bytes[..4], [2, 0, 0, 0]);
        assert_eq!(bytes[4..8], 0x8000_0012_u32.to_ne_bytes());
        assert_eq!(bytes[44..48], 50_u32.to_ne_bytes());
        assert_eq!(bytes[80..], 1000_u32.to_ne_bytes());
        let object = crate::object::Object::parse(&TC_DISPATCHER.0).unwrap();
        assert_eq!(object.variables()["conf"].size, bytes.len() as u64);
    }
}
