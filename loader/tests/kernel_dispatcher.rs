//! `LinuxKernel` where EXT programs and interfaces are needed: chains of XDP programs on a veth, real packets. The test
//! runs itself again in a VM, because the kernels of test machines are often in lockdown.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

mod guest;
mod objects;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;

use aya::maps::{Map, MapData, PerCpuArray};
use bytecode_object::ProgramType;
use loader::XdpMode;
use loader::kernel::linux::LinuxKernel;
use loader::kernel::{
    Device, DispatcherConfig, Interface, Kernel, KernelError, LinkSpec, LoadAs, LoadSpec, Loaded,
    ProgramSpec, XdpDispatcherConfig,
};

/// Whether this is the guest, see [`guest::inside`].
fn inside(test: &str) -> bool {
    guest::inside(test, &["xdp_count", "every_type"])
}

fn program<'a>(function: &'a str, load_as: LoadAs<'a, OwnedFd>) -> ProgramSpec<'a, OwnedFd> {
    ProgramSpec {
        function,
        program_type: ProgramType::Xdp,
        attach_function: None,
        load_as,
    }
}

fn load(
    kernel: &LinuxKernel,
    object: &[u8],
    program: ProgramSpec<'_, OwnedFd>,
    verdict: Option<u32>,
) -> Result<Loaded<OwnedFd>, KernelError> {
    let globals = verdict.map(|verdict| ("verdict".to_owned(), verdict.to_ne_bytes().to_vec()));
    kernel.load(&LoadSpec {
        object,
        programs: vec![program],
        globals: &globals.into_iter().collect(),
        shared_maps: BTreeMap::new(),
    })
}

fn dispatcher(kernel: &LinuxKernel, slots: u8, proceed_on: &[u32], frags: bool) -> OwnedFd {
    let mask = proceed_on.iter().fold(0, |mask, action| mask | 1 << action);
    let config = XdpDispatcherConfig {
        num_progs_enabled: slots,
        is_xdp_frags: frags,
        chain_call_actions: [mask; 10],
        run_prios: [50; 10],
        program_flags: [0; 10],
    };
    kernel
        .load_dispatcher(&DispatcherConfig::Xdp(config))
        .unwrap()
}

const PASS: u32 = 2;
const DROP: u32 = 1;
const RETURN: u32 = 31;

fn member(kernel: &LinuxKernel, object: &[u8], target: &OwnedFd, verdict: u32) -> Loaded<OwnedFd> {
    let load_as = LoadAs::Extension {
        target,
        function: "compat_test",
    };
    load(kernel, object, program("xdp_count", load_as), Some(verdict)).unwrap()
}

fn slot(
    kernel: &LinuxKernel,
    member: &Loaded<OwnedFd>,
    target: &OwnedFd,
    function: &str,
) -> Result<OwnedFd, KernelError> {
    let program = &member.programs[0].handle;
    kernel.link(&LinkSpec::Extension {
        program,
        target,
        function,
    })
}

fn on(
    kernel: &LinuxKernel,
    program: &OwnedFd,
    interface: &Interface,
    netns: Option<&Path>,
) -> Result<OwnedFd, KernelError> {
    kernel.link(&LinkSpec::Xdp {
        program,
        device: &device(interface, netns),
        mode: XdpMode::Driver,
    })
}

fn device(interface: &Interface, netns: Option<&Path>) -> Device {
    Device {
        ifindex: interface.ifindex,
        nsid: interface.nsid,
        netns: netns.map(Path::to_owned),
    }
}

/// Id of the XDP program on an interface.
fn runs_on(kernel: &LinuxKernel, interface: &Interface, netns: Option<&Path>) -> Option<u32> {
    let state = kernel.interface_state(&device(interface, netns)).unwrap();
    state.xdp.first().map(|(_, id)| *id)
}

/// Packets that a program counted.
fn packets(loaded: &Loaded<OwnedFd>) -> u64 {
    let id = loaded
        .maps
        .iter()
        .find(|map| map.name == "packets")
        .unwrap()
        .id;
    let map = Map::PerCpuArray(MapData::from_id(id).unwrap());
    PerCpuArray::<_, u64>::try_from(map)
        .unwrap()
        .get(&0, 0)
        .unwrap()
        .iter()
        .sum()
}

/// Whether the other end is answered.
fn ping(count: u32) -> bool {
    let count = count.to_string();
    let arguments = [
        "netns", "exec", "peer", "ping", "-q", "-c", &count, "-A", "-w", "2", "10.1.0.1",
    ];
    Command::new("ip")
        .args(arguments)
        .output()
        .unwrap()
        .status
        .success()
}

fn errno(error: &KernelError) -> Option<i32> {
    match error {
        KernelError::Syscall { source, .. } | KernelError::Rejected { source, .. } => {
            source.raw_os_error()
        }
        _ => None,
    }
}

#[test]
fn a_chain_runs_in_order_and_is_swapped_in_one_step() {
    if !inside("a_chain_runs_in_order_and_is_swapped_in_one_step") {
        return;
    }
    let kernel = LinuxKernel::new();
    let object = objects::object("xdp_count").unwrap();
    let interface = kernel.interface("veth0", None).unwrap();
    assert_eq!(runs_on(&kernel, &interface, None), None);

    let first = dispatcher(&kernel, 2, &[PASS, RETURN], false);
    let (one, two) = (
        member(&kernel, &object, &first, PASS),
        member(&kernel, &object, &first, PASS),
    );
    assert_eq!(
        kernel
            .program_state(&one.programs[0].handle)
            .unwrap()
            .program_type,
        "ext"
    );
    let _links = [
        slot(&kernel, &one, &first, "prog0").unwrap(),
        slot(&kernel, &two, &first, "prog1").unwrap(),
    ];
    let link = on(&kernel, &first, &interface, None).unwrap();
    let id = kernel.program_state(&first).unwrap().id;
    assert_eq!(runs_on(&kernel, &interface, None), Some(id));
    assert!(ping(5));
    // Packets of others (neighbour discovery) may come in between.
    let (first_count, second_count) = (packets(&one), packets(&two));
    assert!(
        first_count >= 5 && second_count >= first_count,
        "{first_count} {second_count}"
    );

    // Another program on the same interface is refused, whoever's the first is.
    let error = on(&kernel, &first, &interface, None).unwrap_err();
    assert_eq!(errno(&error), Some(libc::EBUSY), "{error:?}");

    // The second revision has a third program in front, which ends the chain.
    let second = dispatcher(&kernel, 3, &[PASS, RETURN], false);
    let front = member(&kernel, &object, &second, DROP);
    let _more = [
        slot(&kernel, &front, &second, "prog0").unwrap(),
        slot(&kernel, &one, &second, "prog1").unwrap(),
        slot(&kernel, &two, &second, "prog2").unwrap(),
    ];
    kernel.update_link(&link, &second).unwrap();
    let before = (packets(&front), packets(&one));
    assert!(!ping(2));
    assert!(packets(&front) > before.0 && packets(&one) == before.1);

    // Back to the first, which was not touched; then nothing.
    kernel.update_link(&link, &first).unwrap();
    let before = packets(&one);
    assert!(ping(2) && packets(&one) >= before + 2);
    drop(link);
    assert_eq!(runs_on(&kernel, &interface, None), None);
}

#[test]
fn ten_slots_and_the_masks_between_them() {
    if !inside("ten_slots_and_the_masks_between_them") {
        return;
    }
    let kernel = LinuxKernel::new();
    let object = objects::object("xdp_count").unwrap();
    let interface = kernel.interface("veth0", None).unwrap();
    // Each goes on after DROP only; the last one's DROP meets the end of the chain, which passes.
    let ten = dispatcher(&kernel, 10, &[DROP], false);
    let mut held = Vec::new();
    let mut links = Vec::new();
    for number in 0..10 {
        let member = member(&kernel, &object, &ten, DROP);
        links.push(slot(&kernel, &member, &ten, &format!("prog{number}")).unwrap());
        held.push(member);
    }
    let error = slot(&kernel, &held[0], &ten, "prog10").unwrap_err();
    assert!(matches!(error, KernelError::NoSlot { .. }), "{error:?}");
    links.push(on(&kernel, &ten, &interface, None).unwrap());
    assert!(ping(3));
    drop(links);
    let counts: Vec<u64> = held.iter().map(packets).collect();
    assert!(
        counts.iter().all(|&count| count == counts[0] && count >= 3),
        "{counts:?}"
    );

    // A slot that nobody stands in returns 31: the chain goes on where the mask has it, and ends with 31 where not.
    let link = on(
        &kernel,
        &dispatcher(&kernel, 1, &[PASS, RETURN], false),
        &interface,
        None,
    )
    .unwrap();
    assert!(ping(1));
    drop(link);
    let link = on(
        &kernel,
        &dispatcher(&kernel, 1, &[PASS], false),
        &interface,
        None,
    )
    .unwrap();
    assert!(!ping(1));
    drop(link);
}

#[test]
fn another_namespace_is_entered_for_its_interfaces_only() {
    if !inside("another_namespace_is_entered_for_its_interfaces_only") {
        return;
    }
    let kernel = LinuxKernel::new();
    let object = objects::object("xdp_count").unwrap();
    let netns = Path::new("/run/netns/peer");
    let there = kernel.interface("veth1", Some(netns)).unwrap();
    let here = kernel.interface("veth0", None).unwrap();
    assert_ne!(there.nsid, here.nsid);
    assert!(kernel.interface("veth1", None).is_err());
    let loaded = load(&kernel, &object, program("xdp_count", LoadAs::Plain), None).unwrap();
    let link = on(&kernel, &loaded.programs[0].handle, &there, Some(netns)).unwrap();
    assert_eq!(
        runs_on(&kernel, &there, Some(netns)),
        Some(loaded.programs[0].id)
    );
    assert!(ping(2) && packets(&loaded) >= 2);
    drop(link);
    // Each mode, where a veth has it; the hook of a card it has not, and what has no driver has only the generic one.
    let loopback = kernel.interface("lo", None).unwrap();
    for (interface, mode, expected) in [
        (&here, XdpMode::Driver, None),
        (&here, XdpMode::Skb, None),
        (&here, XdpMode::Hardware, Some(libc::EINVAL)),
        (&loopback, XdpMode::Driver, Some(libc::EOPNOTSUPP)),
        (&loopback, XdpMode::Skb, None),
    ] {
        let spec = LinkSpec::Xdp {
            program: &loaded.programs[0].handle,
            device: &device(interface, None),
            mode,
        };
        let found = kernel.link(&spec).err();
        assert_eq!(
            found.as_ref().and_then(errno),
            expected,
            "{mode:?}: {found:?}"
        );
    }
}

/// What the fake kernel has to do as well.
#[test]
fn what_the_kernel_makes_of_extensions() {
    if !inside("what_the_kernel_makes_of_extensions") {
        return;
    }
    let kernel = LinuxKernel::new();
    let object = objects::object("xdp_count").unwrap();
    let gone = |id| kernel.program_by_id(id).unwrap().is_none();
    let id_of = |program: &OwnedFd| kernel.program_state(program).unwrap().id;
    let refused = |result: Result<OwnedFd, KernelError>| errno(&result.unwrap_err());

    // A member keeps the dispatcher that it was loaded against until its first link elsewhere.
    let first = dispatcher(&kernel, 0, &[RETURN], false);
    let first_id = id_of(&first);
    let one = member(&kernel, &object, &first, PASS);
    drop(first);
    assert!(!gone(first_id));
    let second = dispatcher(&kernel, 1, &[RETURN], false);
    let second_id = id_of(&second);
    let link = slot(&kernel, &one, &second, "prog0").unwrap();
    assert!(gone(first_id));
    // A link keeps its dispatcher, and its program.
    drop(second);
    assert!(!gone(second_id));

    // A member can stand in several dispatchers and slots; a slot takes one.
    let third = dispatcher(&kernel, 2, &[RETURN], false);
    let third_link = slot(&kernel, &one, &third, "prog0").unwrap();
    drop(slot(&kernel, &one, &third, "prog1").unwrap());
    let two = member(&kernel, &object, &third, PASS);
    assert_eq!(
        refused(slot(&kernel, &two, &third, "prog0")),
        Some(libc::EBUSY)
    );
    // What `num_progs_enabled` leaves out is in the BTF, but since 6.8 no more in the program.
    if let Err(error) = slot(&kernel, &two, &third, "prog5") {
        assert_eq!(errno(&error), Some(libc::EINVAL));
    }
    let plain = load(&kernel, &object, program("xdp_count", LoadAs::Plain), None).unwrap();
    assert_eq!(
        refused(slot(&kernel, &plain, &third, "prog1")),
        Some(libc::EINVAL)
    );
    let interface = kernel.interface("veth0", None).unwrap();
    assert_eq!(
        refused(on(&kernel, &one.programs[0].handle, &interface, None)),
        Some(libc::EINVAL)
    );

    // The last link takes its dispatcher with it; the member can be linked again.
    drop(link);
    assert!(gone(second_id));
    drop(third_link);
    drop(slot(&kernel, &one, &third, "prog0").unwrap());

    // Whether members and dispatcher take frags, the kernel does not compare: keeping them apart is for us to do.
    let with_frags = dispatcher(&kernel, 2, &[RETURN], true);
    let load_as = LoadAs::Extension {
        target: &with_frags,
        function: "compat_test",
    };
    let frags = load(&kernel, &object, program("xdp_count_frags", load_as), None).unwrap();
    drop(slot(&kernel, &frags, &with_frags, "prog0").unwrap());
    drop(slot(&kernel, &two, &with_frags, "prog0").unwrap());
    drop(slot(&kernel, &frags, &third, "prog1").unwrap());

    // The verifier's refusals have its log; so has a target that is not there any more.
    for (function, target, expected) in [
        ("xdp_broken", "compat_test", "invalid access to packet"),
        ("xdp_count", "prog7", "prog7 doesn't exist"),
    ] {
        let load_as = LoadAs::Extension {
            target: &third,
            function: target,
        };
        match load(&kernel, &object, program(function, load_as), None) {
            // Before 6.8 it is still there.
            Ok(_) => assert_eq!(target, "prog7"),
            Err(error) => {
                assert!(
                    matches!(&error, KernelError::Rejected { log, .. } if log.contains(expected)),
                    "{error:?}"
                );
            }
        }
    }
}
