//! kprobes, uprobes, fentry and fexit.

use super::faults::{Case, attach, every_call_fails};
use super::*;
use crate::UprobePoint;
use crate::kernel::KernelError;

/// Loads a kprobe, a kretprobe, a uprobe, a uretprobe, an fentry and an fexit program, in this order.
fn probes(bench: &Bench) -> Vec<u32> {
    bench.kernel.set_functions(&["vfs_unlink", "vfs_read"]);
    bench
        .kernel
        .add_binary("libc", "/usr/lib/x86_64-linux-gnu/libc.so.6");
    let host = if cfg!(target_endian = "big") {
        Endianness::Big
    } else {
        Endianness::Little
    };
    let programs = [
        (ProgramType::Kprobe, "kprobe/x", "on_entry"),
        (ProgramType::Kprobe, "kretprobe", "on_return"),
        (ProgramType::Uprobe, "uprobe", "at_entry"),
        (ProgramType::Uprobe, "uretprobe.s/x", "at_return"),
        (ProgramType::Fentry, "fentry", "traced_entry"),
        (ProgramType::Fexit, "fexit/x", "traced_return"),
    ];
    let asked = |(program_type, _, function): (ProgramType, &str, &str)| ProgramRequest {
        program_type,
        function: function.to_owned(),
        attach_function: function
            .starts_with("traced")
            .then(|| "vfs_unlink".to_owned()),
    };
    let wanted = LoadRequest {
        object: elf(host, &programs.map(|(_, section, name)| (section, name))),
        programs: programs.map(asked).to_vec(),
        ..request(&[])
    };
    ids(&bench.loader.load(&mut bench.lock(), wanted).unwrap())
}

fn kprobe(function: &str, offset: u64) -> AttachPoint {
    AttachPoint::Kprobe {
        function: function.to_owned(),
        offset,
    }
}

fn uprobe(target: &str, function: Option<&str>, offset: u64) -> AttachPoint {
    AttachPoint::Uprobe(UprobePoint {
        target: target.to_owned(),
        function: function.map(str::to_owned),
        offset,
        pid: Some(7),
        container_pid: None,
    })
}

#[test]
fn the_section_says_which_end_of_the_function_is_probed() {
    let bench = Bench::new();
    let ids = probes(&bench);
    let cases = [
        (0, kprobe("vfs_unlink", 4), "probe at vfs_unlink+4"),
        (
            1,
            kprobe("vfs_unlink", 0),
            "probe at vfs_unlink+0 at return",
        ),
        (
            2,
            uprobe("libc", Some("malloc"), 2),
            "probe at /usr/lib/x86_64-linux-gnu/libc.so.6+4098 in 7",
        ),
        (
            3,
            uprobe("libc", None, 64),
            "probe at /usr/lib/x86_64-linux-gnu/libc.so.6+64 in 7 at return",
        ),
        (4, AttachPoint::Fentry, "probe at its function"),
        (5, AttachPoint::Fexit, "probe at its function"),
    ];
    for (program, point, place) in cases {
        let made = bench.try_attach(ids[program], point.clone()).unwrap();
        let line = format!("{place}: program {}", ids[program]);
        let snapshot = bench.kernel.snapshot();
        assert!(
            snapshot.iter().any(|there| there.ends_with(&line)),
            "{line}: {snapshot:#?}"
        );
        let shown = bench.loader.link(&bench.lock(), made.id).unwrap();
        assert_eq!(shown.attachment, made.attachment);
        let retprobe = [1, 3].contains(&program);
        match (point, made.attachment) {
            (
                AttachPoint::Kprobe { function, offset },
                Attachment::Kprobe {
                    function: shown,
                    offset: at,
                    retprobe: returns,
                },
            ) => assert_eq!((function, offset, retprobe), (shown, at, returns)),
            (
                AttachPoint::Uprobe(asked),
                Attachment::Uprobe {
                    point,
                    path,
                    retprobe: returns,
                },
            ) => {
                assert_eq!((asked, retprobe), (point, returns));
                assert_eq!(path, Path::new("/usr/lib/x86_64-linux-gnu/libc.so.6"));
            }
            (AttachPoint::Fentry, Attachment::Fentry { function })
            | (AttachPoint::Fexit, Attachment::Fexit { function }) => {
                assert_eq!(function, "vfs_unlink");
            }
            (asked, shown) => panic!("{asked:?} became {shown:?}"),
        }
    }
    bench.assert_agreement("six links");
    let links = bench
        .loader
        .links(&bench.lock(), &LinkFilter::default())
        .unwrap();
    for link in links.iter().filter(|link| link.program_id != ids[0]) {
        bench.detach(link.id);
    }
    bench.assert_agreement("one link");
    ids.iter().for_each(|id| bench.unload(*id));
    bench.assert_agreement("none");
}

#[test]
fn what_is_refused_says_why_and_what_to_do() {
    let bench = Bench::new();
    let ids = probes(&bench);
    let link = bench.attach(ids[4], AttachPoint::Fentry);
    let before = bench.kernel.snapshot();
    let (entry, returns, at, traced) = (ids[0], ids[1], ids[2], ids[4]);
    let cases = [
        (
            entry,
            kprobe("vfs_unlnk", 0),
            format!("attaching program {entry} to kernel function vfs_unlnk"),
            Some("did you mean `vfs_unlink`?".to_owned()),
        ),
        (
            returns,
            kprobe("vfs_read", 8),
            format!(
                "attaching program {returns} to kernel function vfs_read: it is a kretprobe, which takes no offset, \
                 and 8 was given"
            ),
            Some("leave --offset out: it runs when the function returns".to_owned()),
        ),
        (
            at,
            uprobe("libc", None, 0),
            format!("attaching program {at} to libc: neither a function nor an offset was given"),
            Some(
                "name the function with --fn-name, or the place in the file with --offset"
                    .to_owned(),
            ),
        ),
        (
            at,
            uprobe("libm", Some("sin"), 0),
            format!("attaching program {at} to sin of libm"),
            Some("give the absolute path".to_owned()),
        ),
        (
            traced,
            AttachPoint::Fentry,
            format!(
                "attaching program {traced} to kernel function vfs_unlink: it is attached there, by link {link}, and \
                 a tracing program can be only once"
            ),
            Some(format!(
                "`bpfman detach {link}` first, or load the program once more"
            )),
        ),
        (
            traced,
            AttachPoint::Fexit,
            format!("attaching program {traced} to fexit: it was loaded as fentry"),
            Some(format!("`bpfman attach {traced} fentry …`")),
        ),
    ];
    for (id, point, text, hint) in cases {
        let error = bench.try_attach(id, point).unwrap_err();
        assert_eq!(error.to_string(), text);
        assert_eq!(error.hint(), hint, "{text}");
        assert_eq!(bench.kernel.snapshot(), before, "{text}");
    }
    bench.detach(link);
    bench.attach(traced, AttachPoint::Fentry);
    bench.assert_agreement("attached again");
}

#[test]
fn a_tracepoint_that_is_not_there_is_told_from_the_nearest() {
    let bench = Bench::new();
    let id = bench.load(&["tracepoint:on_switch"])[0];
    bench
        .kernel
        .set_tracepoints(&["sched/sched_switch", "net/netif_rx"]);
    for (asked, hint) in [
        ("sched/sched_swich", "did you mean `sched/sched_switch`?"),
        (
            "power/cpu_idle",
            "`ls /sys/kernel/tracing/events/*` lists the tracepoints there are",
        ),
    ] {
        let error = bench.try_attach(id, tracepoint(asked)).unwrap_err();
        let expected = format!("attaching program {id} to tracepoint {asked}");
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.hint().as_deref(), Some(hint));
    }
    bench.assert_agreement("refused");
}

#[test]
fn hosts_without_the_means_are_told_what_is_missing() {
    let missing = |kind: &'static str| {
        KernelError::from(crate::kernel::ProbeError::NoProbes {
            kind,
            path: format!("/sys/bus/event_source/devices/{kind}/type").into(),
        })
    };
    let refused = KernelError::NoTracing {
        source: std::io::Error::from_raw_os_error(libc::EPERM),
    };
    for (source, words) in [
        (
            missing("kprobe"),
            "CONFIG_KPROBES=y and CONFIG_KPROBE_EVENTS=y",
        ),
        (
            missing("uprobe"),
            "CONFIG_UPROBES=y and CONFIG_UPROBE_EVENTS=y",
        ),
        (refused, "no lockdown"),
    ] {
        let error = LoaderError::Kernel {
            what: "attaching".to_owned(),
            source,
        };
        let hint = error.hint().unwrap();
        assert!(hint.contains(words), "{hint}");
    }
}

const CASES: [Case; 7] = [
    Case {
        name: "attach of a kretprobe",
        prepare: probes,
        act: |bench, guard, ids| attach(bench, guard, ids[1], kprobe("vfs_unlink", 0)),
    },
    Case {
        name: "attach of a uprobe",
        prepare: probes,
        act: |bench, guard, ids| attach(bench, guard, ids[2], uprobe("libc", Some("malloc"), 0)),
    },
    Case {
        name: "attach of a second uprobe",
        prepare: |bench| {
            let ids = probes(bench);
            bench.attach(ids[3], uprobe("libc", Some("malloc"), 0));
            ids
        },
        act: |bench, guard, ids| attach(bench, guard, ids[3], uprobe("libc", Some("malloc"), 0)),
    },
    Case {
        name: "attach of an fentry program",
        prepare: probes,
        act: |bench, guard, ids| attach(bench, guard, ids[4], AttachPoint::Fentry),
    },
    Case {
        name: "attach of an fexit program",
        prepare: probes,
        act: |bench, guard, ids| attach(bench, guard, ids[5], AttachPoint::Fexit),
    },
    Case {
        name: "detach of a uprobe",
        prepare: |bench| {
            let ids = probes(bench);
            vec![bench.attach(ids[2], uprobe("libc", Some("malloc"), 0))]
        },
        act: |bench, guard, ids| bench.loader.detach(guard, ids[0]),
    },
    Case {
        name: "unload of an fentry program that is attached",
        prepare: |bench| {
            let ids = probes(bench);
            bench.attach(ids[4], AttachPoint::Fentry);
            ids
        },
        act: |bench, guard, ids| bench.loader.unload(guard, ids[4]),
    },
];

#[test]
fn a_failed_call_leaves_everything_as_it_was() {
    for case in CASES {
        every_call_fails(&case);
    }
}
