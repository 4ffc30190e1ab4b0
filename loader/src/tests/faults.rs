//! The Nth kernel call fails, for every N: an error, and everything is as it was before.

use super::*;

/// What is done while calls fail, and what was there before it.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) prepare: fn(&Bench) -> Vec<u32>,
    pub(super) act: Act,
}

pub(super) type Act = fn(&Bench, &mut Guard, &[u32]) -> Result<(), LoaderError>;

fn three_members(bench: &Bench) -> Vec<u32> {
    let programs = bench.load(&["xdp:pass", "xdp:xdp_stats", "tracepoint:on_switch"]);
    let first = bench.attach(programs[0], xdp("eth0", 50));
    let middle = bench.attach(programs[1], xdp("eth0", 60));
    let last = bench.attach(programs[0], xdp("eth0", 70));
    let other = bench.attach(programs[1], xdp("eth1", 5));
    let tracepoint = bench.attach(programs[2], tracepoint("sched/sched_switch"));
    let mut all = programs;
    all.extend([first, middle, last, other, tracepoint]);
    all
}

const NETNS: &str = "/run/netns/blue";

/// Filters of others at our preference on both directions of `eth0`, ours among them: of ingress, two members; of egress
/// one. Ours on ingress has not the lowest handle that is free.
fn beside_filters_of_others(bench: &Bench) -> Vec<u32> {
    use TcDirection::{Egress, Ingress};
    let others = |direction| {
        bench
            .kernel
            .add_foreign_filter("eth0", direction, 50, "bpf");
    };
    bench.kernel.set_qdisc("eth0", Some("clsact"));
    others(Ingress);
    others(Egress);
    let mut all = bench.load(&["tc:tc_pass"]);
    all.push(bench.attach(all[0], tc("eth0", Ingress, 1)));
    all.push(bench.attach(all[0], tc("eth0", Egress, 1)));
    bench.kernel.remove_foreign_filters("eth0", Ingress);
    all
}

/// An owner of maps and a guest, both attached.
fn shared_maps(bench: &Bench) -> Vec<u32> {
    let mut all = bench.load(&["tracepoint:on_switch"]);
    let mut guest = request(&["tracepoint:on_kill_with_a_long_name"]);
    guest.map_owner_id = Some(all[0]);
    all.extend(ids(&bench.loader.load(&mut bench.lock(), guest).unwrap()));
    for id in all.clone() {
        all.push(bench.attach(id, tracepoint("sched/sched_switch")));
    }
    all
}

/// Programs: a classifier, another, one for TCX, another, one for XDP. Links: two on ingress of `eth0` and one on its
/// egress, one of TCX, and one each of TC, TCX and XDP on the interface of a namespace.
fn traffic(bench: &Bench) -> Vec<u32> {
    use TcDirection::{Egress, Ingress};
    bench.kernel.add_namespace(NETNS, 77, "eth7", 7001);
    let words = [
        "tc:tc_pass",
        "tc:tc_stats",
        "tcx:tcx_stats",
        "tcx:tc_pass",
        "xdp:pass",
    ];
    // One program a load: none shares its maps with another.
    let mut all: Vec<u32> = words.iter().map(|word| bench.load(&[word])[0]).collect();
    for (program, point) in [
        (0, tc("eth0", Ingress, 50)),
        (1, tc("eth0", Ingress, 60)),
        (1, tc("eth0", Egress, 5)),
        (2, tcx("eth0", Ingress, 50)),
        (0, within(NETNS, tc("eth7", Egress, 1))),
        (2, within(NETNS, tcx("eth7", Egress, 1))),
        (4, within(NETNS, xdp("eth7", 1))),
    ] {
        all.push(bench.attach(all[program], point));
    }
    all
}

pub(super) fn attach(
    bench: &Bench,
    guard: &mut Guard,
    id: u32,
    point: AttachPoint,
) -> Result<(), LoaderError> {
    let metadata = BTreeMap::new();
    bench
        .loader
        .attach(guard, id, AttachRequest { point, metadata })
        .map(|_| ())
}

pub(super) const CASES: [Case; 27] = [
    Case {
        name: "load of three programs",
        prepare: |bench| {
            // The folders that stay are there from the first load on.
            let ids = bench.load(&["tracepoint:on_switch"]);
            bench.unload(ids[0]);
            ids
        },
        act: |bench, guard, _| {
            let request = request(&["xdp:pass", "tracepoint:on_switch", "xdp:xdp_stats"]);
            bench.loader.load(guard, request).map(|_| ())
        },
    },
    Case {
        name: "load with the maps of another",
        prepare: |bench| bench.load(&["tracepoint:on_switch"]),
        act: |bench, guard, ids| {
            let mut request = request(&["tracepoint:on_kill_with_a_long_name"]);
            request.map_owner_id = Some(ids[0]);
            bench.loader.load(guard, request).map(|_| ())
        },
    },
    Case {
        name: "attach of the first XDP member",
        prepare: |bench| bench.load(&["xdp:pass"]),
        act: |bench, guard, ids| attach(bench, guard, ids[0], xdp("eth0", 1)),
    },
    Case {
        name: "attach of the fourth XDP member",
        prepare: three_members,
        act: |bench, guard, ids| attach(bench, guard, ids[1], xdp("eth0", 55)),
    },
    Case {
        name: "attach of a plain XDP program",
        prepare: |bench| {
            bench.kernel.refuse_extensions(true);
            bench.load(&["xdp:pass"])
        },
        act: |bench, guard, ids| attach(bench, guard, ids[0], xdp("eth0", 1)),
    },
    Case {
        name: "attach to a tracepoint",
        prepare: three_members,
        act: |bench, guard, ids| attach(bench, guard, ids[2], tracepoint("sched/sched_switch")),
    },
    Case {
        name: "detach of the middle XDP member",
        prepare: three_members,
        act: |bench, guard, ids| bench.loader.detach(guard, ids[4]),
    },
    Case {
        name: "detach of the last XDP member",
        prepare: three_members,
        act: |bench, guard, ids| bench.loader.detach(guard, ids[6]),
    },
    Case {
        name: "detach from a tracepoint",
        prepare: three_members,
        act: |bench, guard, ids| bench.loader.detach(guard, ids[7]),
    },
    Case {
        name: "unload of a program in two chains",
        prepare: three_members,
        act: |bench, guard, ids| bench.loader.unload(guard, ids[1]),
    },
    Case {
        name: "load of programs with two dispatchers",
        prepare: |bench| {
            let ids = bench.load(&["tracepoint:on_switch"]);
            bench.unload(ids[0]);
            ids
        },
        act: |bench, guard, _| {
            let request = request(&["tc:tc_pass", "tcx:tcx_stats", "xdp:pass"]);
            bench.loader.load(guard, request).map(|_| ())
        },
    },
    Case {
        name: "attach of the first TC member",
        prepare: |bench| bench.load(&["tc:tc_pass"]),
        act: |bench, guard, ids| attach(bench, guard, ids[0], tc("eth0", TcDirection::Egress, 1)),
    },
    Case {
        name: "attach of a plain TC program",
        prepare: |bench| {
            bench.kernel.refuse_extensions(true);
            bench.load(&["tc:tc_pass"])
        },
        act: |bench, guard, ids| attach(bench, guard, ids[0], tc("eth0", TcDirection::Ingress, 1)),
    },
    Case {
        name: "attach of the third TC member",
        prepare: traffic,
        act: |bench, guard, ids| attach(bench, guard, ids[0], tc("eth0", TcDirection::Ingress, 55)),
    },
    Case {
        name: "attach of a TCX program before another",
        prepare: traffic,
        act: |bench, guard, ids| attach(bench, guard, ids[3], tcx("eth0", TcDirection::Ingress, 5)),
    },
    Case {
        name: "attach of the second TC member in a namespace",
        prepare: traffic,
        act: |bench, guard, ids| {
            let point = within(NETNS, tc("eth7", TcDirection::Egress, 5));
            attach(bench, guard, ids[1], point)
        },
    },
    Case {
        name: "attach of the second XDP member in a namespace",
        prepare: traffic,
        act: |bench, guard, ids| attach(bench, guard, ids[4], within(NETNS, xdp("eth7", 5))),
    },
    Case {
        name: "detach of a TC member",
        prepare: traffic,
        act: |bench, guard, ids| bench.loader.detach(guard, ids[5]),
    },
    Case {
        name: "detach of the last TC member, clsact and all, in a namespace",
        prepare: traffic,
        act: |bench, guard, ids| bench.loader.detach(guard, ids[9]),
    },
    Case {
        name: "unload of a TCX program on two hooks",
        prepare: traffic,
        act: |bench, guard, ids| bench.loader.unload(guard, ids[2]),
    },
    Case {
        name: "unload of a program in two TC chains",
        prepare: traffic,
        act: |bench, guard, ids| bench.loader.unload(guard, ids[1]),
    },
    Case {
        name: "attach of the second TC member beside a filter of others",
        prepare: beside_filters_of_others,
        act: |bench, guard, ids| attach(bench, guard, ids[0], tc("eth0", TcDirection::Egress, 5)),
    },
    Case {
        name: "detach of the last TC member, whose handle is not the lowest",
        prepare: beside_filters_of_others,
        act: |bench, guard, ids| bench.loader.detach(guard, ids[1]),
    },
    Case {
        name: "unload of a program on both directions beside a filter of others",
        prepare: beside_filters_of_others,
        act: |bench, guard, ids| bench.loader.unload(guard, ids[0]),
    },
    Case {
        name: "unload of an owner of maps with a guest",
        prepare: shared_maps,
        act: |bench, guard, ids| bench.loader.unload(guard, ids[0]),
    },
    Case {
        name: "unload of the last guest after the owner",
        prepare: |bench| {
            let ids = shared_maps(bench);
            bench.unload(ids[0]);
            ids
        },
        act: |bench, guard, ids| bench.loader.unload(guard, ids[1]),
    },
    Case {
        name: "unload of the last user of maps",
        prepare: |bench| bench.load(&["tracepoint:on_switch"]),
        act: |bench, guard, ids| bench.loader.unload(guard, ids[0]),
    },
];

#[test]
fn a_failed_call_leaves_everything_as_it_was() {
    for case in CASES {
        every_call_fails(&case);
    }
}

/// Lets the Nth call fail, for every N, until none is left to fail and the act is done.
pub(super) fn every_call_fails(case: &Case) {
    let prepare = || {
        let bench = Bench::new();
        let ids = (case.prepare)(&bench);
        (bench, ids)
    };
    every_call_fails_on(case.name, prepare, case.act);
}

/// The same, on a host that is prepared otherwise.
pub(super) fn every_call_fails_on(name: &str, prepare: impl Fn() -> (Bench, Vec<u32>), act: Act) {
    let (mut bench, mut ids) = prepare();
    let (mut before, mut records) = (bench.kernel.snapshot(), bench.records());
    let mut failed = 0;
    let mut done = false;
    for n in 1.. {
        let context = format!("{}, call {n}", name);
        let mut guard = bench.lock();
        bench.kernel.fail_at(n);
        let result = act(&bench, &mut guard, &ids);
        let armed = bench.kernel.is_armed();
        bench.kernel.fail_at(0);
        drop(guard);
        if armed {
            result.unwrap();
            break;
        }
        // Behind the last step, calls only look at what was done: the act succeeds whichever of them fails.
        if result.is_ok() {
            bench.assert_agreement(&context);
            assert_ne!(bench.records(), records, "{context}: did nothing");
            done = true;
            (bench, ids) = prepare();
            (before, records) = (bench.kernel.snapshot(), bench.records());
            continue;
        }
        assert!(!done, "{context}: an earlier call made no difference");
        assert_eq!(bench.kernel.snapshot(), before, "{context}");
        assert_eq!(bench.records(), records, "{context}");
        failed = n;
    }
    assert!(failed >= 2, "{}: only {failed} calls", name);
    bench.assert_agreement(name);
    assert_ne!(bench.records(), records, "{}: did nothing", name);
}

/// What is looked at, as it is shown.
type Look = fn(&Bench, &[u32]) -> Result<String, LoaderError>;

/// What is there before it.
type Prepare = fn(&Bench) -> Vec<u32>;

const LOOKS: [(&str, Prepare, Look); 5] = [
    ("list programs", traffic, |bench, _| {
        let guard = bench.loader.lock_to_read()?;
        let filter = ProgramFilter {
            all: true,
            ..ProgramFilter::default()
        };
        let found = bench.loader.programs(&guard, &filter)?;
        Ok(format!("{found:?}"))
    }),
    ("list links", traffic, |bench, _| {
        let guard = bench.loader.lock_to_read()?;
        let found = bench.loader.links(&guard, &LinkFilter::default())?;
        Ok(format!("{found:?}"))
    }),
    ("get program", traffic, |bench, ids| {
        let guard = bench.loader.lock_to_read()?;
        let found = bench.loader.program(&guard, ids[0])?;
        Ok(format!("{found:?}"))
    }),
    ("get link", traffic, |bench, ids| {
        let guard = bench.loader.lock_to_read()?;
        let found = bench.loader.link(&guard, ids[5])?;
        Ok(format!("{found:?}"))
    }),
    // Without XDP: a link that is pinned says itself where it is, whatever else cannot be looked at.
    ("doctor", beside_filters_of_others, |bench, _| {
        let found = bench.loader.doctor()?;
        Ok(format!("{found:?}"))
    }),
];

#[test]
fn looking_changes_nothing_whatever_fails() {
    for (name, prepare, look) in LOOKS {
        let bench = Bench::new();
        let ids = prepare(&bench);
        let (before, records) = (bench.kernel.snapshot(), bench.records());
        let whole = look(&bench, &ids).unwrap();
        let mut failed = 0;
        for n in 1.. {
            bench.kernel.fail_at(n);
            let seen = look(&bench, &ids);
            let armed = bench.kernel.is_armed();
            bench.kernel.fail_at(0);
            assert_eq!(bench.kernel.snapshot(), before, "{name}, call {n}");
            assert_eq!(bench.records(), records, "{name}, call {n}");
            if armed {
                assert_eq!(seen.unwrap(), whole, "{name}");
                break;
            }
            // The doctor names what it could not see; to others it may make no difference, but nothing is left out.
            if let Ok(seen) = seen {
                assert_eq!(seen == whole, name != "doctor", "{name}, call {n}: {seen}");
            }
            failed = n;
        }
        assert!(failed >= 1, "{name} asks the kernel nothing");
    }
}

#[test]
fn a_verdict_of_the_kernel_is_kept_as_the_cause() {
    let bench = Bench::new();
    let id = bench.load(&["tracepoint:on_switch"])[0];
    bench.kernel.fail_at(6);
    let error = bench
        .try_attach(id, tracepoint("sched/sched_switch"))
        .unwrap_err();
    let cause = std::error::Error::source(&error).unwrap();
    assert!(cause.to_string().contains("os error 5"), "{error}: {cause}");
}
