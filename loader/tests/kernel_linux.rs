//! `LinuxKernel` on this machine's kernel: loads, pins, events. What a kernel in lockdown refuses (EXT, fentry) and what
//! needs interfaces runs in `kernel_dispatcher.rs`, in a VM.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod objects;
mod real;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use bpfman_tests::lanes;
use bytecode_object::ProgramType;
use loader::TcDirection;
use loader::kernel::linux::LinuxKernel;
use loader::kernel::{
    Device, DispatcherConfig, IngressQdisc, Kernel, KernelError, LinkSpec, LoadSpec, Loaded,
    XdpDispatcherConfig,
};

use objects::object;
use real::{Bpffs, Globals, load, number, program};

/// Whether the test runs where tracefs is mounted. Where it is not, the test was run once more in a mount namespace of
/// its own in which it is, and has to return.
fn with_tracefs(test: &str) -> bool {
    const TRACING: &str = "/sys/kernel/tracing";
    if Path::new(TRACING).join("events").is_dir() {
        return true;
    }
    let script =
        // Not `exec`: a command alone in its mount namespace is refused to mount a bpffs.
        format!("mount -t tracefs tracefs {TRACING} && \"$0\" --exact --nocapture {test}; exit $?");
    // Where `/` is no mount point (a chroot) the mounts cannot be made private first.
    let private = Command::new("unshare").args(["--mount", "true"]).output();
    let propagation = match private {
        Ok(output) if output.status.success() => "private",
        _ => "unchanged",
    };
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", propagation])
        .args(["sh", "-c", &script])
        .arg(std::env::current_exe().unwrap())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    false
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_tracepoint_counts_events_as_its_globals_say_and_lives_by_its_pins() {
    let Some(object) = object("tracepoint") else {
        return;
    };
    if !lanes::root()
        || !with_tracefs("a_tracepoint_counts_events_as_its_globals_say_and_lives_by_its_pins")
    {
        return;
    }
    let kernel = LinuxKernel::new();
    let bpffs = Bpffs::mount(&kernel);
    let globals = Globals::from([
        (
            "only_pid".to_owned(),
            std::process::id().to_ne_bytes().to_vec(),
        ),
        ("weight".to_owned(), 5_u64.to_ne_bytes().to_vec()),
    ]);
    let loaded = load(
        &kernel,
        &object,
        vec![program("count", ProgramType::Tracepoint)],
        &globals,
    )
    .unwrap();
    let names: Vec<&str> = loaded.maps.iter().map(|map| map.name.as_str()).collect();
    assert_eq!(names, [".rodata", "events"]);

    let state = kernel.program_state(&loaded.programs[0].handle).unwrap();
    assert_eq!(
        (state.id, state.name.as_str()),
        (loaded.programs[0].id, "count")
    );
    assert_eq!(state.program_type, "tracepoint");
    assert!(
        state.gpl_compatible && state.btf_id != 0 && state.size_translated > 0 && state.memory > 0
    );
    let mut ids: Vec<u32> = loaded.maps.iter().map(|map| map.id).collect();
    ids.sort_unstable();
    assert_eq!(state.map_ids, ids);
    let age = std::time::SystemTime::now()
        .duration_since(state.loaded_at.unwrap())
        .unwrap();
    assert!(age.as_secs() < 3600, "{age:?}");
    let brief = kernel.program_brief(state.id).unwrap().unwrap();
    assert_eq!(
        (brief.name.as_str(), brief.program_type.as_str()),
        ("count", "tracepoint")
    );

    let link = kernel
        .link(&LinkSpec::Tracepoint {
            program: &loaded.programs[0].handle,
            category: "syscalls",
            // Rarely called by others. Not getpgid: in a pid namespace it may answer 0, which rustix asserts against.
            name: "sys_enter_getpriority",
        })
        .unwrap();
    let call = || assert!(rustix::process::getpriority_process(None).is_ok());
    (0..3).for_each(|_| call());
    assert_eq!(number::<u64>(&loaded, "events"), 15);

    // The pin keeps the link when its handle goes; without either it is gone.
    let pin = bpffs.path().join("links/17");
    kernel.create_dir(pin.parent().unwrap()).unwrap();
    kernel.create_dir(pin.parent().unwrap()).unwrap();
    kernel.pin(&link, &pin).unwrap();
    assert_eq!((mode(pin.parent().unwrap()), mode(&pin)), (0o770, 0o660));
    let entries = kernel.list_dir(pin.parent().unwrap()).unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!((entries[0].name.as_str(), entries[0].is_dir), ("17", false));
    drop(link);
    call();
    assert_eq!(number::<u64>(&loaded, "events"), 20);
    drop(kernel.open_pin(&pin).unwrap().unwrap());
    kernel.unpin(&pin).unwrap();
    kernel.unpin(&pin).unwrap();
    kernel.remove_dir(pin.parent().unwrap()).unwrap();
    kernel.remove_dir(pin.parent().unwrap()).unwrap();
    assert!(kernel.open_pin(&pin).unwrap().is_none());
    assert!(kernel.list_dir(pin.parent().unwrap()).unwrap().is_empty());
    // A pin's reference is dropped after an RCU grace period (bpf_free_inode in kernel/bpf/inode.c): some calls may
    // still be counted, but not for ever.
    let counted = || {
        let before = number::<u64>(&loaded, "events");
        call();
        number::<u64>(&loaded, "events") != before
    };
    assert!((0..1_000_000).any(|_| !counted()));
}

#[test]
fn programs_are_found_by_id_until_their_last_handle_goes() {
    let Some(object) = object("xdp_count") else {
        return;
    };
    if !lanes::root() {
        return;
    }
    let kernel = LinuxKernel::new();
    let loaded = load(
        &kernel,
        &object,
        vec![program("xdp_count", ProgramType::Xdp)],
        &Globals::new(),
    )
    .unwrap();
    let id = loaded.programs[0].id;
    let mut ids = Vec::new();
    while let Some(next) = kernel
        .next_program_id(ids.last().copied().unwrap_or_default())
        .unwrap()
    {
        ids.push(next);
    }
    assert!(ids.contains(&id), "{id} in {ids:?}");
    let again = kernel.program_by_id(id).unwrap().unwrap();
    drop(loaded);
    assert_eq!(kernel.program_state(&again).unwrap().id, id);
    drop(again);
    assert!(kernel.program_by_id(u32::MAX - 1).unwrap().is_none());
    assert!(kernel.program_brief(u32::MAX - 1).unwrap().is_none());
}

#[test]
fn every_type_word_loads_whatever_stands_beside_it() {
    let Some(object) = object("every_type") else {
        return;
    };
    if !lanes::root() {
        return;
    }
    use ProgramType::*;
    let cases = [
        (Xdp, "xdp_plain", "xdp", false),
        (Xdp, "xdp_named", "xdp", false),
        (Xdp, "xdp_frags", "xdp", true),
        (Tc, "tc_plain", "tc", false),
        (Tc, "tc_ingress", "tc", false),
        (Tcx, "tc_egress", "tc", false),
        (Tc, "classifier_plain", "tc", false),
        (Tcx, "classifier_named", "tc", false),
        (Tcx, "tcx_ingress", "tc", false),
        (Tc, "tcx_egress", "tc", false),
        (Kprobe, "kprobe_named", "probe", false),
        (Kprobe, "kretprobe_plain", "probe", false),
        (Uprobe, "uprobe_named", "probe", false),
        (Uprobe, "uretprobe_plain", "probe", false),
        (Tracepoint, "tracepoint_named", "tracepoint", false),
        (Tracepoint, "tp_named", "tracepoint", false),
        (Tracepoint, "tracepoint_optional", "tracepoint", false),
        (Tracepoint, "tracepoint_second", "tracepoint", false),
    ];
    let kernel = LinuxKernel::new();
    let globals = Globals::new();
    for (word, function, kernel_type, frags) in cases {
        let loaded = load(&kernel, &object, vec![program(function, word)], &globals);
        let loaded = loaded.unwrap_or_else(|error| panic!("{word} {function}: {error:?}"));
        let state = kernel.program_state(&loaded.programs[0].handle).unwrap();
        assert_eq!(state.program_type, kernel_type, "{word} {function}");
        assert_eq!(state.name, function[..function.len().min(15)]);
        assert_eq!(loaded.programs[0].xdp_frags, frags, "{function}");
    }
    // All at once, in the order asked, with one set of maps.
    let programs = cases
        .iter()
        .map(|(word, function, ..)| program(function, *word))
        .collect();
    let loaded = load(&kernel, &object, programs, &globals).unwrap();
    let functions: Vec<&str> = loaded
        .programs
        .iter()
        .map(|program| program.function.as_str())
        .collect();
    assert_eq!(functions, cases.map(|(_, function, ..)| function));
    assert_eq!(loaded.maps.len(), 1);

    // Lockdown, or a kernel without trampolines, refuses these by kind, and never for another reason.
    for (word, function) in [(Fentry, "fentry_named"), (Fexit, "fexit_plain")] {
        let mut spec = program(function, word);
        spec.attach_function = Some("vfs_read");
        match load(&kernel, &object, vec![spec], &globals) {
            Ok(loaded) => {
                let state = kernel.program_state(&loaded.programs[0].handle).unwrap();
                assert_eq!(state.program_type, "tracing");
            }
            Err(KernelError::NoTracing { .. }) => {}
            Err(error) => panic!("{word}: {error:?}"),
        }
        let mut spec = program(function, word);
        spec.attach_function = Some("no_such_function_anywhere");
        let error = load(&kernel, &object, vec![spec], &globals).unwrap_err();
        assert!(
            matches!(error, KernelError::NoKernelFunction { .. }),
            "{error:?}"
        );
    }
}

#[test]
fn what_cannot_be_loaded_says_why() {
    let Some(object) = object("xdp_count") else {
        return;
    };
    if !lanes::root() || !with_tracefs("what_cannot_be_loaded_says_why") {
        return;
    }
    let kernel = LinuxKernel::new();
    let none = Globals::new();
    let error = load(
        &kernel,
        &object,
        vec![program("xdp_broken", ProgramType::Xdp)],
        &none,
    )
    .unwrap_err();
    match &error {
        KernelError::Rejected {
            function,
            log,
            source,
        } => {
            assert_eq!(function, "xdp_broken");
            assert!(
                log.contains("invalid access to packet") && log.contains("ctx->data"),
                "{log}"
            );
            assert_eq!(source.raw_os_error(), Some(libc::EACCES));
        }
        error => panic!("{error:?}"),
    }
    // A sibling that fails takes the whole load with it.
    let programs = vec![
        program("xdp_count", ProgramType::Xdp),
        program("xdp_broken", ProgramType::Xdp),
    ];
    assert!(matches!(
        load(&kernel, &object, programs, &none),
        Err(KernelError::Rejected { .. })
    ));

    let error = load(
        &kernel,
        &object,
        vec![program("nothing", ProgramType::Xdp)],
        &none,
    )
    .unwrap_err();
    let expected =
        "no program `nothing` in the object; it has xdp_broken, xdp_count, xdp_count_frags";
    assert_eq!(error.to_string(), expected);
    let error = load(
        &kernel,
        &object,
        vec![program("xdp_count", ProgramType::Tc)],
        &none,
    )
    .unwrap_err();
    let expected = "program `xdp_count` is in section `xdp/count` and cannot be loaded as tc";
    assert_eq!(error.to_string(), expected);
    let count = || vec![program("xdp_count", ProgramType::Xdp)];
    let globals = Globals::from([("verdict".to_owned(), vec![1])]);
    let error = load(&kernel, &object, count(), &globals).unwrap_err();
    assert_eq!(
        error.to_string(),
        "global variable `verdict` has 4 bytes, its value 1"
    );
    let globals = Globals::from([("other".to_owned(), vec![1])]);
    let error = load(&kernel, &object, count(), &globals).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no global variable `other` in the object; it has verdict"
    );
    let error = load(&kernel, b"\x7fELF nonsense", count(), &none).unwrap_err();
    assert!(matches!(error, KernelError::Normalise { .. }), "{error:?}");

    let loaded = load(&kernel, &object, count(), &none).unwrap();
    let tracepoint = |category, name| {
        let program = &loaded.programs[0].handle;
        kernel
            .link(&LinkSpec::Tracepoint {
                program,
                category,
                name,
            })
            .unwrap_err()
    };
    assert!(matches!(
        tracepoint("sched", "nothing"),
        KernelError::NoTracepoint { .. }
    ));
    assert!(matches!(
        tracepoint("..", "sched"),
        KernelError::NoTracepoint { .. }
    ));
    // An XDP program on a tracepoint.
    assert!(matches!(
        tracepoint("sched", "sched_switch"),
        KernelError::Syscall { .. }
    ));
    let error = kernel.interface("no-such-iface", None).unwrap_err();
    assert!(
        matches!(error, KernelError::NoInterface { .. }),
        "{error:?}"
    );
    assert_eq!(kernel.interface("lo", None).unwrap().ifindex, 1);
    let lo = kernel.interface("lo", None).unwrap();
    let device = |ifindex| Device {
        ifindex,
        nsid: lo.nsid,
        netns: None,
    };
    let state = kernel.interface_state(&device(1)).unwrap();
    assert_eq!((state.name.as_str(), state.xdp.len()), ("lo", 0));
    // ENODEV; what dumps say of such an interface is nothing.
    let gone = device(u32::MAX >> 1);
    assert!(matches!(
        kernel.interface_state(&gone),
        Err(KernelError::InterfaceGone { .. })
    ));
    assert_eq!(kernel.ingress_qdisc(&gone).unwrap(), IngressQdisc::None);
    for direction in [TcDirection::Ingress, TcDirection::Egress] {
        assert_eq!(kernel.tc_filters(&gone, direction).unwrap(), []);
    }
    assert!(matches!(
        kernel.add_clsact(&gone),
        Err(KernelError::InterfaceGone { .. })
    ));
}

#[test]
fn maps_of_every_shape_are_made_and_shared_only_with_their_like() {
    let Some(maps) = object("maps") else { return };
    let Some(tracepoint) = object("tracepoint") else {
        return;
    };
    if !lanes::root() {
        return;
    }
    let kernel = LinuxKernel::new();
    let bpffs = Bpffs::mount(&kernel);
    let globals = Globals::from([("in_data".to_owned(), 77_u32.to_ne_bytes().to_vec())]);
    let loaded = load(
        &kernel,
        &maps,
        vec![program("classify", ProgramType::Tc)],
        &globals,
    )
    .unwrap();
    let names: Vec<&str> = loaded.maps.iter().map(|map| map.name.as_str()).collect();
    let expected = [
        ".bss",
        ".data",
        ".rodata",
        "bloom",
        "devices",
        "jumps",
        "outer",
        "perf",
        "queue",
        "queue_of_addresses_with_a_long_name",
        "ring",
    ];
    assert_eq!(names, expected);
    assert_eq!(number::<u32>(&loaded, ".data"), 77);
    assert_eq!(number::<u64>(&loaded, ".rodata"), 9);

    let first = load(
        &kernel,
        &tracepoint,
        vec![program("count", ProgramType::Tracepoint)],
        &Globals::new(),
    )
    .unwrap();
    let pin = |map: usize, name: &str, loaded: &Loaded<OwnedFd>| {
        let path = bpffs.path().join(name);
        kernel.pin(&loaded.maps[map].handle, &path).unwrap();
        path
    };
    let events = pin(1, "events", &first);
    let share = |path: &Path| {
        kernel.load(&LoadSpec {
            object: &tracepoint,
            programs: vec![program("count", ProgramType::Tracepoint)],
            globals: &Globals::new(),
            shared_maps: BTreeMap::from([("events".to_owned(), path.to_owned())]),
        })
    };
    let second = share(&events).unwrap();
    assert_eq!(second.maps[1].id, first.maps[1].id);
    assert_ne!(second.maps[0].id, first.maps[0].id);
    let error = share(&pin(9, "other", &loaded)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "map `events` cannot be shared: its type is hash, the object has array"
    );
    let error = share(&bpffs.path().join("nothing")).unwrap_err();
    assert!(
        matches!(error, KernelError::NoSharedMap { .. }),
        "{error:?}"
    );
    // bpffs takes no dots.
    let error = kernel
        .pin(&first.maps[0].handle, &bpffs.path().join(".rodata"))
        .unwrap_err();
    assert!(matches!(error, KernelError::Syscall { .. }), "{error:?}");
}

#[test]
fn types_are_fitted_to_the_running_kernel() {
    let Some(object) = object("core") else { return };
    if !lanes::root() || !with_tracefs("types_are_fitted_to_the_running_kernel") {
        return;
    }
    let kernel = LinuxKernel::new();
    let programs = vec![program("remember", ProgramType::Tracepoint)];
    let loaded = load(&kernel, &object, programs, &Globals::new()).unwrap();
    let link = kernel.link(&LinkSpec::Tracepoint {
        program: &loaded.programs[0].handle,
        category: "syscalls",
        // Not the call whose events another test of this process counts.
        name: "sys_enter_getppid",
    });
    drop((rustix::process::getppid(), link.unwrap()));
    // Other processes may call it, too; their ids are not nought either, and a thread's is not below its process's.
    let [first, second] = number::<[u32; 2]>(&loaded, ".bss");
    assert!(
        first != 0 && second != 0 && first.abs_diff(second) < 1 << 22,
        "{first} {second}"
    );
}

#[test]
fn the_dispatcher_loads_with_any_number_of_slots() {
    if !lanes::root() {
        return;
    }
    let kernel = LinuxKernel::new();
    for (slots, frags) in [(0, false), (1, false), (10, false), (10, true)] {
        let config = XdpDispatcherConfig {
            num_progs_enabled: slots,
            is_xdp_frags: frags,
            chain_call_actions: [1 << 31 | 1 << 2; 10],
            run_prios: [50; 10],
            program_flags: [0; 10],
        };
        let dispatcher = kernel
            .load_dispatcher(&DispatcherConfig::Xdp(config))
            .unwrap();
        let state = kernel.program_state(&dispatcher).unwrap();
        assert_eq!(
            (state.name.as_str(), state.program_type.as_str()),
            ("xdp_dispatcher", "xdp")
        );
        // A slot that is not used costs nothing: it is not there.
        assert!(slots != 0 || state.size_translated < 200, "{state:?}");
    }
}
