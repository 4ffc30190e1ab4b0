//! The only home of raw system calls: `bpf(2)` and `perf_event_open(2)`, each behind a function that cannot be called
//! wrongly. Everything else goes through `rustix` and `std`.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use aya_obj::generated::{
    bpf_attach_type, bpf_attr, bpf_btf_info, bpf_cmd, bpf_insn, bpf_link_info, bpf_link_type,
    bpf_map_info, bpf_prog_info, bpf_prog_type, perf_event_attr, perf_type_id,
};

use crate::kernel::{LinkKind, kept_name};

/// A map to make.
#[derive(Debug)]
pub(super) struct MapAttributes<'a> {
    pub(super) map_type: u32,
    pub(super) key_size: u32,
    pub(super) value_size: u32,
    pub(super) max_entries: u32,
    pub(super) flags: u32,
    pub(super) extra: u64,
    pub(super) name: &'a str,
    /// A map like those that this one holds.
    pub(super) inner: Option<BorrowedFd<'a>>,
    /// BTF with the types of key and value.
    pub(super) btf: Option<(BorrowedFd<'a>, u32, u32)>,
}

/// A program to load.
#[derive(Debug)]
pub(super) struct ProgramAttributes<'a> {
    pub(super) program_type: bpf_prog_type,
    pub(super) attach_type: u32,
    pub(super) flags: u32,
    pub(super) name: &'a str,
    pub(super) license: &'a CStr,
    pub(super) kernel_version: u32,
    pub(super) instructions: &'a [bpf_insn],
    pub(super) btf: Option<Info<'a>>,
    /// BTF id of the function to attach to, and the program that has it (`None`: the kernel).
    pub(super) target: Option<(u32, Option<BorrowedFd<'a>>)>,
}

/// Types and lines of a program's functions: records of `struct bpf_func_info` and `struct bpf_line_info`.
#[derive(Debug)]
pub(super) struct Info<'a> {
    pub(super) btf: BorrowedFd<'a>,
    pub(super) functions: &'a [u8],
    pub(super) functions_record: u32,
    pub(super) lines: &'a [u8],
    pub(super) lines_record: u32,
}

/// What a link is made on.
#[derive(Debug)]
pub(super) enum LinkTarget<'a> {
    Interface(u32),
    /// A function of a program, by BTF id.
    Function(BorrowedFd<'a>, u32),
    PerfEvent(BorrowedFd<'a>),
    /// One direction of an interface, beside another link that is there.
    Tcx {
        ifindex: u32,
        beside: Option<BorrowedFd<'a>>,
    },
}

pub(super) fn map_create(map: &MapAttributes<'_>) -> io::Result<OwnedFd> {
    let mut attr = attributes();
    attr.__bindgen_anon_1.map_type = map.map_type;
    attr.__bindgen_anon_1.key_size = map.key_size;
    attr.__bindgen_anon_1.value_size = map.value_size;
    attr.__bindgen_anon_1.max_entries = map.max_entries;
    attr.__bindgen_anon_1.map_flags = map.flags;
    attr.__bindgen_anon_1.map_extra = map.extra;
    attr.__bindgen_anon_1.map_name = object_name(map.name);
    if let Some(inner) = map.inner {
        attr.__bindgen_anon_1.inner_map_fd = number(inner);
    }
    if let Some((btf, key, value)) = map.btf {
        attr.__bindgen_anon_1.btf_fd = number(btf);
        attr.__bindgen_anon_1.btf_key_type_id = key;
        attr.__bindgen_anon_1.btf_value_type_id = value;
    }
    // SAFETY: BPF_MAP_CREATE reads no memory beyond the attributes.
    unsafe { descriptor(bpf_cmd::BPF_MAP_CREATE, &mut attr) }
}

/// Writes the one value of an array map. `EINVAL` when it has not the map's size.
pub(super) fn array_write(map: BorrowedFd<'_>, value: &[u8]) -> io::Result<()> {
    let info = map_info(map)?;
    if info.key_size != 4 || info.value_size as usize != value.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let key = 0_u32;
    let mut attr = attributes();
    attr.__bindgen_anon_2.map_fd = number(map);
    attr.__bindgen_anon_2.key = address(&key);
    attr.__bindgen_anon_2.__bindgen_anon_1.value = value.as_ptr() as u64;
    // SAFETY: the kernel reads a key of 4 and a value of `value_size` bytes; both were just compared.
    unsafe { call(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr) }.map(drop)
}

/// Puts a map or a program into a map of descriptors (`BPF_MAP_TYPE_PROG_ARRAY`, a map of maps), whose keys are numbers.
pub(super) fn descriptor_write(
    map: BorrowedFd<'_>,
    index: u32,
    value: BorrowedFd<'_>,
) -> io::Result<()> {
    let info = map_info(map)?;
    if info.key_size != 4 || info.value_size != 4 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let value = number(value);
    let mut attr = attributes();
    attr.__bindgen_anon_2.map_fd = number(map);
    attr.__bindgen_anon_2.key = address(&index);
    attr.__bindgen_anon_2.__bindgen_anon_1.value = address(&value);
    // SAFETY: the kernel reads a key and a value of 4 bytes each; the map's sizes were just compared.
    unsafe { call(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr) }.map(drop)
}

/// Maps an arena once: where it lies in a process is fixed by that, and the verifier wants it fixed.
pub(super) fn arena_place(map: BorrowedFd<'_>, bytes: usize) -> io::Result<()> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping at a place of the kernel's choice; nothing of ours is replaced.
    let place = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes,
            access,
            libc::MAP_SHARED,
            map.as_raw_fd(),
            0,
        )
    };
    if place == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the mapping that was just made, and that nobody else knows of.
    unsafe { libc::munmap(place, bytes) };
    Ok(())
}

/// Takes the right to write a map from user space, for good: its contents become constants to the verifier.
pub(super) fn map_freeze(map: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = attributes();
    attr.__bindgen_anon_2.map_fd = number(map);
    // SAFETY: BPF_MAP_FREEZE reads no memory beyond the attributes.
    unsafe { call(bpf_cmd::BPF_MAP_FREEZE, &mut attr) }.map(drop)
}

pub(super) fn btf_load(btf: &[u8]) -> io::Result<OwnedFd> {
    let mut attr = attributes();
    attr.__bindgen_anon_7.btf = btf.as_ptr() as u64;
    attr.__bindgen_anon_7.btf_size = length(btf.len())?;
    // SAFETY: the kernel reads `btf_size` bytes, the length of the slice.
    unsafe { descriptor(bpf_cmd::BPF_BTF_LOAD, &mut attr) }
}

/// Loads a program. With a `log`, the verifier writes into it, up to its length; `ENOSPC` when it is too short.
pub(super) fn program_load(
    program: &ProgramAttributes<'_>,
    log: Option<&mut [u8]>,
) -> io::Result<OwnedFd> {
    let mut attr = attributes();
    attr.__bindgen_anon_3.prog_type = program.program_type as u32;
    attr.__bindgen_anon_3.expected_attach_type = program.attach_type;
    attr.__bindgen_anon_3.prog_flags = program.flags;
    attr.__bindgen_anon_3.prog_name = object_name(program.name);
    attr.__bindgen_anon_3.license = program.license.as_ptr() as u64;
    attr.__bindgen_anon_3.kern_version = program.kernel_version;
    attr.__bindgen_anon_3.insns = program.instructions.as_ptr() as u64;
    attr.__bindgen_anon_3.insn_cnt = length(program.instructions.len())?;
    if let Some(info) = &program.btf {
        attr.__bindgen_anon_3.prog_btf_fd = number(info.btf);
        if let Some(count) = info
            .functions
            .len()
            .checked_div(info.functions_record as usize)
        {
            attr.__bindgen_anon_3.func_info = info.functions.as_ptr() as u64;
            attr.__bindgen_anon_3.func_info_cnt = length(count)?;
            attr.__bindgen_anon_3.func_info_rec_size = info.functions_record;
        }
        if let Some(count) = info.lines.len().checked_div(info.lines_record as usize) {
            attr.__bindgen_anon_3.line_info = info.lines.as_ptr() as u64;
            attr.__bindgen_anon_3.line_info_cnt = length(count)?;
            attr.__bindgen_anon_3.line_info_rec_size = info.lines_record;
        }
    }
    if let Some((function, of)) = program.target {
        attr.__bindgen_anon_3.attach_btf_id = function;
        if let Some(of) = of {
            attr.__bindgen_anon_3.__bindgen_anon_1.attach_prog_fd = number(of);
        }
    }
    if let Some(log) = log {
        attr.__bindgen_anon_3.log_level = 1;
        attr.__bindgen_anon_3.log_size = length(log.len())?;
        attr.__bindgen_anon_3.log_buf = log.as_mut_ptr() as u64;
    }
    // SAFETY: every pointer goes with the length of its slice (record size times count for the info); the licence
    // ends in NUL; the log is borrowed mutably and written up to `log_size`.
    unsafe { descriptor(bpf_cmd::BPF_PROG_LOAD, &mut attr) }
}

pub(super) fn pin(object: BorrowedFd<'_>, path: &CStr) -> io::Result<()> {
    let mut attr = attributes();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    attr.__bindgen_anon_4.bpf_fd = number(object);
    // SAFETY: the path ends in NUL.
    unsafe { call(bpf_cmd::BPF_OBJ_PIN, &mut attr) }.map(drop)
}

pub(super) fn open_pin(path: &CStr) -> io::Result<OwnedFd> {
    let mut attr = attributes();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    // SAFETY: the path ends in NUL.
    unsafe { descriptor(bpf_cmd::BPF_OBJ_GET, &mut attr) }
}

pub(super) fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    let mut attr = attributes();
    attr.__bindgen_anon_6.__bindgen_anon_1.prog_id = id;
    // SAFETY: reads no memory beyond the attributes.
    unsafe { descriptor(bpf_cmd::BPF_PROG_GET_FD_BY_ID, &mut attr) }
}

pub(super) fn map_by_id(id: u32) -> io::Result<OwnedFd> {
    let mut attr = attributes();
    attr.__bindgen_anon_6.__bindgen_anon_1.map_id = id;
    // SAFETY: reads no memory beyond the attributes.
    unsafe { descriptor(bpf_cmd::BPF_MAP_GET_FD_BY_ID, &mut attr) }
}

pub(super) fn next_program_id(after: u32) -> io::Result<u32> {
    let mut attr = attributes();
    attr.__bindgen_anon_6.__bindgen_anon_1.start_id = after;
    // SAFETY: reads no memory beyond the attributes.
    unsafe { call(bpf_cmd::BPF_PROG_GET_NEXT_ID, &mut attr) }?;
    // SAFETY: the kernel wrote the member; every member of the union is a plain number.
    Ok(unsafe { attr.__bindgen_anon_6 }.next_id)
}

/// A program's state. The first `map_ids.len()` ids of its maps are written into `map_ids`; how many there are is in
/// `nr_map_ids`.
pub(super) fn program_info(
    program: BorrowedFd<'_>,
    map_ids: &mut [u32],
) -> io::Result<bpf_prog_info> {
    // SAFETY: a C struct of numbers; all noughts is a value of it.
    let mut info: bpf_prog_info = unsafe { mem::zeroed() };
    info.nr_map_ids = length(map_ids.len())?;
    info.map_ids = map_ids.as_mut_ptr() as u64;
    // SAFETY: the one pointer that is set goes with its length.
    unsafe { object_info(program, &mut info) }?;
    Ok(info)
}

pub(super) fn map_info(map: BorrowedFd<'_>) -> io::Result<bpf_map_info> {
    // SAFETY: a C struct of numbers; all noughts is a value of it.
    let mut info: bpf_map_info = unsafe { mem::zeroed() };
    // SAFETY: no pointer in it.
    unsafe { object_info(map, &mut info) }?;
    Ok(info)
}

/// The BTF of that id, as it was loaded.
pub(super) fn btf_by_id(id: u32) -> io::Result<Vec<u8>> {
    let mut attr = attributes();
    attr.__bindgen_anon_6.__bindgen_anon_1.btf_id = id;
    // SAFETY: reads no memory beyond the attributes.
    let btf = unsafe { descriptor(bpf_cmd::BPF_BTF_GET_FD_BY_ID, &mut attr) }?;
    let btf = std::os::fd::AsFd::as_fd(&btf);
    // Enough for a dispatcher; the kernel says how long it really is.
    let mut bytes = vec![0; 8 << 10];
    loop {
        // SAFETY: a C struct of numbers; all noughts is a value of it.
        let mut info: bpf_btf_info = unsafe { mem::zeroed() };
        info.btf = bytes.as_mut_ptr() as u64;
        info.btf_size = length(bytes.len())?;
        // SAFETY: the one pointer that is set goes with its length; the kernel writes no more than that.
        unsafe { object_info(btf, &mut info) }?;
        let size = info.btf_size as usize;
        let whole = size <= bytes.len();
        bytes.resize(size, 0);
        if whole {
            return Ok(bytes);
        }
    }
}

pub(super) fn link_create(
    program: BorrowedFd<'_>,
    target: &LinkTarget<'_>,
    attach_type: bpf_attach_type,
    flags: u32,
) -> io::Result<OwnedFd> {
    let mut attr = attributes();
    attr.link_create.__bindgen_anon_1.prog_fd = number(program);
    attr.link_create.attach_type = attach_type as u32;
    attr.link_create.flags = flags;
    match target {
        LinkTarget::Interface(index) => attr.link_create.__bindgen_anon_2.target_ifindex = *index,
        LinkTarget::PerfEvent(event) => {
            attr.link_create.__bindgen_anon_2.target_fd = number(*event)
        }
        LinkTarget::Function(of, id) => {
            attr.link_create.__bindgen_anon_2.target_fd = number(*of);
            attr.link_create.__bindgen_anon_3.target_btf_id = *id;
        }
        LinkTarget::Tcx { ifindex, beside } => {
            attr.link_create.__bindgen_anon_2.target_ifindex = *ifindex;
            if let Some(beside) = beside {
                attr.link_create
                    .__bindgen_anon_3
                    .tcx
                    .__bindgen_anon_1
                    .relative_fd = number(*beside);
            }
        }
    }
    // SAFETY: reads no memory beyond the attributes for these kinds of link.
    unsafe { descriptor(bpf_cmd::BPF_LINK_CREATE, &mut attr) }
}

pub(super) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = attributes();
    attr.link_update.link_fd = number(link);
    attr.link_update.__bindgen_anon_1.new_prog_fd = number(program);
    // SAFETY: reads no memory beyond the attributes.
    unsafe { call(bpf_cmd::BPF_LINK_UPDATE, &mut attr) }.map(drop)
}

/// What the kernel says of a link.
#[derive(Debug, Clone, Copy)]
pub(super) struct LinkInfo {
    pub(super) id: u32,
    pub(super) kind: LinkKind,
    /// Id of the program that it runs.
    pub(super) program_id: u32,
}

/// What a link leads to, its id, and the id of the program that it runs.
pub(super) fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    // SAFETY: a C struct of numbers; all noughts is a value of it.
    let mut info: bpf_link_info = unsafe { mem::zeroed() };
    // SAFETY: no pointer in it.
    unsafe { object_info(link, &mut info) }?;
    const XDP: u32 = bpf_link_type::BPF_LINK_TYPE_XDP as u32;
    const TCX: u32 = bpf_link_type::BPF_LINK_TYPE_TCX as u32;
    const TRACING: u32 = bpf_link_type::BPF_LINK_TYPE_TRACING as u32;
    let there = |ifindex: u32| Some(ifindex).filter(|&ifindex| ifindex != 0);
    let kind = match info.type_ {
        // SAFETY: the kernel wrote this member for this type; it is a plain number.
        XDP => LinkKind::Xdp(there(unsafe { info.__bindgen_anon_1.xdp }.ifindex)),
        // SAFETY: as above.
        TCX => LinkKind::Tcx(there(unsafe { info.__bindgen_anon_1.tcx }.ifindex)),
        // SAFETY: as above.
        TRACING => LinkKind::Function(unsafe { info.__bindgen_anon_1.tracing }.target_obj_id),
        _ => LinkKind::Other,
    };
    Ok(LinkInfo {
        id: info.id,
        kind,
        program_id: info.prog_id,
    })
}

/// Ids of the programs and links on one direction of an interface of this thread's namespace, in the order in which
/// they run (`BPF_PROG_QUERY`, kernel 6.6); the first `ids.len()` of them, and how many there are. `EINVAL` where the
/// kernel has no TCX, `ENODEV` for an interface that is gone.
pub(super) fn tcx_query(
    ifindex: u32,
    attach_type: bpf_attach_type,
    ids: &mut [(u32, u32)],
) -> io::Result<usize> {
    /// The members of `union bpf_attr` for the query, up to the last that the kernel wants to know of.
    #[repr(C)]
    #[derive(Default)]
    struct Query {
        target_ifindex: u32,
        attach_type: u32,
        query_flags: u32,
        attach_flags: u32,
        prog_ids: u64,
        count: u32,
        reserved: u32,
        prog_attach_flags: u64,
        link_ids: u64,
        link_attach_flags: u64,
        revision: u64,
    }
    let mut programs = vec![0_u32; ids.len()];
    let mut links = vec![0_u32; ids.len()];
    let mut query = Query {
        target_ifindex: ifindex,
        attach_type: attach_type as u32,
        prog_ids: programs.as_mut_ptr() as u64,
        link_ids: links.as_mut_ptr() as u64,
        count: length(ids.len())?,
        ..Query::default()
    };
    // SAFETY: the kernel reads and writes `size_of::<Query>()` bytes of the struct, and writes at most `count` ids into
    // each of the two arrays, which have that length and outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            bpf_cmd::BPF_PROG_QUERY as libc::c_uint,
            std::ptr::from_mut(&mut query),
            mem::size_of::<Query>(),
        )
    };
    if result < 0 {
        let error = io::Error::last_os_error();
        // More than there was room for: those that fit were written (`bpf_mprog_query` in kernel/bpf/mprog.c).
        if error.raw_os_error() != Some(libc::ENOSPC) {
            return Err(error);
        }
    }
    for (id, found) in ids.iter_mut().zip(programs.into_iter().zip(links)) {
        *id = found;
    }
    Ok(query.count as usize)
}

/// Interface of an XDP or TCX link; `None` once it is on none. `EINVAL` for links of other kinds.
pub(super) fn link_interface(link: BorrowedFd<'_>) -> io::Result<Option<u32>> {
    match link_info(link)?.kind {
        LinkKind::Xdp(ifindex) | LinkKind::Tcx(ifindex) => Ok(ifindex),
        LinkKind::Function(_) | LinkKind::Other => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// fentry or fexit on the function that the program was loaded for.
pub(super) fn tracing_open(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut attr = attributes();
    attr.raw_tracepoint.prog_fd = number(program);
    // SAFETY: without a name, as here, it reads no memory beyond the attributes.
    unsafe { descriptor(bpf_cmd::BPF_RAW_TRACEPOINT_OPEN, &mut attr) }
}

/// An event of the tracepoint of that id.
pub(super) fn tracepoint_event(id: u64) -> io::Result<OwnedFd> {
    let mut attr = event_attributes(perf_type_id::PERF_TYPE_TRACEPOINT as u32, id);
    // SAFETY: no pointer in the attributes is set.
    unsafe { perf_event_open(&mut attr, None) }
}

/// An event of a kprobe or uprobe, by the number that the kernel has for that kind.
///
/// `name` is a function of the kernel, or a path; `pid` the one process that counts, `None` for all.
pub(super) fn probe_event(
    kind: u32,
    config: u64,
    name: &CStr,
    offset: u64,
    pid: Option<u32>,
) -> io::Result<OwnedFd> {
    let mut attr = event_attributes(kind, config);
    attr.__bindgen_anon_3.config1 = name.as_ptr() as u64;
    attr.__bindgen_anon_4.probe_offset = offset;
    // SAFETY: the name ends in NUL.
    unsafe { perf_event_open(&mut attr, pid) }
}

fn event_attributes(kind: u32, config: u64) -> perf_event_attr {
    // SAFETY: a C struct of numbers; all noughts is a value of it.
    let mut attr: perf_event_attr = unsafe { mem::zeroed() };
    attr.type_ = kind;
    attr.size = mem::size_of::<perf_event_attr>() as u32;
    attr.config = config;
    attr
}

/// A BPF program on an event of every process runs on every CPU, whichever one the event is on.
///
/// # Safety
///
/// Pointers that are set in `attr` must be good for what the kind of event reads.
unsafe fn perf_event_open(attr: &mut perf_event_attr, pid: Option<u32>) -> io::Result<OwnedFd> {
    const NO_GROUP: libc::c_int = -1;
    const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 8;
    let (pid, cpu): (libc::pid_t, libc::c_int) = match pid {
        Some(pid) => (libc::pid_t::try_from(pid).map_err(io::Error::other)?, -1),
        None => (-1, 0),
    };
    // SAFETY: the kernel reads `size` bytes of the attributes; the caller answers for pointers in them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            std::ptr::from_mut(attr),
            pid,
            cpu,
            NO_GROUP,
            PERF_FLAG_FD_CLOEXEC,
        )
    };
    // SAFETY: a new descriptor that nobody else has.
    unsafe { owned(result) }
}

/// # Safety
///
/// Pointers that are set in `info` must go with lengths that hold.
unsafe fn object_info<T>(object: BorrowedFd<'_>, info: &mut T) -> io::Result<()> {
    let mut attr = attributes();
    attr.info.bpf_fd = number(object);
    attr.info.info_len = length(mem::size_of::<T>())?;
    attr.info.info = std::ptr::from_mut(info) as u64;
    // SAFETY: the kernel writes at most `info_len` bytes; the caller answers for pointers within.
    unsafe { call(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr) }.map(drop)
}

fn attributes() -> bpf_attr {
    // SAFETY: a C union of numbers; all noughts is a value of it, and the kernel wants unused bytes to be nought.
    unsafe { mem::zeroed() }
}

/// # Safety
///
/// Every pointer that `command` reads from `attr` must be good for the length that goes with it.
unsafe fn call(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<libc::c_long> {
    // BPF_PROG_LOAD gives EAGAIN when a signal is pending; libbpf tries five times, too.
    const TRIES: usize = 5;
    let mut tries = 0;
    loop {
        // SAFETY: `attr` is as long as is said; the caller answers for what it points to.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                command as libc::c_uint,
                std::ptr::from_mut(attr),
                mem::size_of::<bpf_attr>(),
            )
        };
        if result >= 0 {
            return Ok(result);
        }
        let error = io::Error::last_os_error();
        tries += 1;
        if error.kind() != io::ErrorKind::WouldBlock || tries == TRIES {
            return Err(error);
        }
    }
}

/// # Safety
///
/// As for [`call`]; and `command` gives a new descriptor.
unsafe fn descriptor(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    // SAFETY: the caller's.
    let result = unsafe { call(command, attr) }?;
    // SAFETY: the caller's.
    unsafe { owned(result) }
}

/// # Safety
///
/// `result` is what a call gave back that makes a descriptor.
unsafe fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let result = libc::c_int::try_from(result).map_err(io::Error::other)?;
    // SAFETY: the caller's.
    Ok(unsafe { OwnedFd::from_raw_fd(result) })
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    // Never negative while it is borrowed.
    fd.as_raw_fd().cast_unsigned()
}

fn length(length: usize) -> io::Result<u32> {
    u32::try_from(length).map_err(|_| io::ErrorKind::InvalidInput.into())
}

fn address<T>(value: &T) -> u64 {
    std::ptr::from_ref(value) as u64
}

/// What is kept of a name, then NUL.
fn object_name(name: &str) -> [c_char; 16] {
    let mut out = [0; 16];
    for (place, byte) in out.iter_mut().take(15).zip(kept_name(name).bytes()) {
        *place = byte as c_char;
    }
    out
}
