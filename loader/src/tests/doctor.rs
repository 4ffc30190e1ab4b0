//! Records, kernel and bpffs are set at odds in each way there is: exactly that is named, mended where it can be, and
//! what others made stays as it was.

use std::fs;

use FindingKind::*;
use TcDirection::{Egress, Ingress};

use super::*;
use crate::kernel::fake::NSID;
use crate::kernel::{Kernel, LinkSpec};
use crate::state::{ChainKey, ClsactRecord, Direction, Hook, Key, Put, Store};
use crate::{Diagnosis, FindingKind, Outcome};

/// What the damage is done to.
struct Host {
    bench: Bench,
    /// Programs: two for XDP, then a tracepoint's, a classifier and one for TCX, each of a load of its own. Links: two of
    /// XDP, the tracepoint's, two of TC, one of TCX, all on `eth0`.
    ids: Vec<u32>,
    foreign: u32,
}

impl Host {
    fn new() -> Self {
        let bench = Bench::new();
        let words = [
            "xdp:pass",
            "xdp:xdp_stats",
            "tracepoint:on_switch",
            "tc:tc_pass",
            "tcx:tcx_stats",
        ];
        let mut ids: Vec<u32> = words.iter().map(|word| bench.load(&[word])[0]).collect();
        bench.kernel.set_qdisc("eth1", Some("clsact"));
        bench.kernel.add_foreign_filter("eth1", Egress, 7, "flower");
        bench.kernel.attach_foreign_tcx("eth1", Ingress).unwrap();
        let foreign = bench.kernel.load_foreign("foreign", "xdp");
        for (program, point) in [
            (0, xdp("eth0", 50)),
            (1, xdp("eth0", 60)),
            (2, tracepoint("sched/sched_switch")),
            (3, tc("eth0", Ingress, 50)),
            (3, tc("eth0", Ingress, 60)),
            (4, tcx("eth0", Ingress, 50)),
        ] {
            ids.push(bench.attach(ids[program], point));
        }
        Self {
            bench,
            ids,
            foreign,
        }
    }

    fn key(&self, hook: Hook) -> ChainKey {
        ChainKey {
            hook,
            nsid: NSID,
            ifindex: self.bench.kernel.index("eth0"),
        }
    }

    /// A path in the folder of a hook, by the end of its name.
    fn of_chain(&self, hook: Hook, end: &str) -> PathBuf {
        let key = self.key(hook);
        self.bench.fs(&format!(
            "{}/dispatcher_{NSID}_{}_{end}",
            hook.folder(),
            key.ifindex
        ))
    }

    fn unpin(&self, path: &str) {
        self.bench.kernel.unpin(&self.bench.fs(path)).unwrap();
    }

    /// Changes records as nobody should.
    fn falsify(&self, change: impl Fn(&Store) -> Vec<Put>) {
        let guard = self.bench.lock();
        let records = guard.records().unwrap().unwrap();
        let puts = change(records);
        records.apply(&puts, Direction::Forward).unwrap();
    }

    fn found(&self) -> Vec<FindingKind> {
        let found = self.bench.loader.doctor().unwrap();
        found.iter().map(|found| found.finding.kind).collect()
    }

    /// Lines of a snapshot of what is not ours.
    fn foreign(&self) -> Vec<String> {
        let eth1 = self.bench.kernel.index("eth1").to_string();
        let snapshot = self.bench.kernel.snapshot().into_iter();
        snapshot
            .filter(|line| {
                line.contains("foreign")
                    || line.contains("mine")
                    || line.contains(&format!("of {eth1} "))
            })
            .collect()
    }
}

/// What is done, what is found, and what of it is left after repairing.
type Case = (
    &'static str,
    fn(&Host),
    &'static [FindingKind],
    &'static [FindingKind],
);

const CASES: &[Case] = &[
    ("nothing", |_| {}, &[], &[]),
    (
        "a program in a chain loses its pin",
        |host| host.unpin(&format!("prog_{}", host.ids[0])),
        &[ProgramUnpinned],
        &[],
    ),
    (
        "a program and its link lose their pins, and are gone",
        |host| {
            host.unpin(&format!("links/{}", host.ids[7]));
            host.unpin(&format!("prog_{}", host.ids[2]));
        },
        &[ProgramGone, LinkGone],
        &[],
    ),
    (
        "a link loses its pin",
        |host| host.unpin(&format!("links/{}", host.ids[7])),
        &[LinkGone],
        &[],
    ),
    (
        "a pin is another's",
        |host| {
            host.unpin(&format!("prog_{}", host.ids[0]));
            let path = host.bench.fs(&format!("prog_{}", host.ids[0]));
            host.bench.kernel.pin_foreign(&path);
        },
        &[PinDiffers],
        &[PinDiffers],
    ),
    (
        "a link's pin is another's",
        |host| {
            host.unpin(&format!("links/{}", host.ids[7]));
            let path = host.bench.fs(&format!("links/{}", host.ids[7]));
            host.bench.kernel.pin_foreign(&path);
        },
        &[PinDiffers],
        &[PinDiffers],
    ),
    (
        "a map loses its pin",
        |host| host.unpin(&format!("maps/{}/counts", host.ids[2])),
        &[MapUnpinned],
        &[],
    ),
    (
        "the folder of maps is gone",
        |host| {
            let folder = format!("maps/{}", host.ids[2]);
            host.unpin(&format!("{folder}/counts"));
            host.unpin(&format!("{folder}/events"));
            let folder = host.bench.fs(&folder);
            host.bench.kernel.remove_dir(&folder).unwrap();
        },
        &[FolderMissing, MapUnpinned, MapUnpinned],
        &[],
    ),
    (
        "a folder that stays is gone",
        |host| {
            let folder = host.bench.fs("tc-egress");
            host.bench.kernel.remove_dir(&folder).unwrap();
        },
        &[FolderMissing],
        &[],
    ),
    (
        "an XDP link loses its pin",
        |host| {
            let link = host.of_chain(Hook::Xdp, "link");
            host.bench.kernel.unpin(&link).unwrap();
        },
        &[ChainDetached],
        &[],
    ),
    (
        "somebody else takes the place of the XDP link",
        |host| {
            let link = host.of_chain(Hook::Xdp, "link");
            host.bench.kernel.unpin(&link).unwrap();
            host.bench.kernel.attach_foreign_xdp("eth0").unwrap();
        },
        &[PinDiffers],
        &[PinDiffers],
    ),
    (
        "an XDP link runs something else",
        |host| {
            let kernel = &host.bench.kernel;
            let link = kernel
                .open_pin(&host.of_chain(Hook::Xdp, "link"))
                .unwrap()
                .unwrap();
            let other = kernel.program_by_id(host.foreign).unwrap().unwrap();
            kernel.update_link(&link, &other).unwrap();
        },
        &[ChainDiffers],
        &[],
    ),
    (
        "slots lose their pins",
        |host| {
            let slots = [
                host.of_chain(Hook::Xdp, "2/link_0"),
                host.of_chain(Hook::Tc(Ingress), "2/link_1"),
            ];
            for slot in slots {
                host.bench.kernel.unpin(&slot).unwrap();
            }
        },
        &[SlotDiffers, SlotDiffers],
        &[],
    ),
    (
        "a filter is gone",
        |host| {
            let kernel = &host.bench.kernel;
            let key = host.key(Hook::Tc(Ingress));
            let running = kernel.tc_chain(NSID, key.ifindex, Ingress).unwrap().0;
            let device = crate::kernel::Device {
                ifindex: key.ifindex,
                nsid: NSID,
                netns: None,
            };
            kernel
                .remove_tc_filter(&device, Ingress, running)
                .unwrap()
                .unwrap();
        },
        &[ChainDetached],
        &[],
    ),
    (
        "clsact is gone, with the filter",
        |host| host.bench.kernel.set_qdisc("eth0", None),
        &[ChainDetached],
        &[],
    ),
    (
        "the interface is gone",
        |host| host.bench.kernel.remove_interface("eth0"),
        &[LinkStopped, ChainStopped, ChainStopped],
        &[],
    ),
    (
        "bpffs is unmounted",
        |host| host.bench.kernel.unmount(),
        &[
            NotMounted,
            ProgramGone,
            ProgramGone,
            ProgramGone,
            ProgramGone,
            ProgramGone,
            LinkGone,
            LinkGone,
            ChainDetached,
            SlotDiffers,
            SlotDiffers,
        ],
        &[],
    ),
    (
        "a program has no record",
        |host| host.falsify(|records| vec![records.remove(Key::Program(host.ids[2])).unwrap()]),
        &[LinkWithoutProgram, LeftOver, LeftOver],
        &[],
    ),
    (
        "the member of a chain has no record",
        |host| host.falsify(|records| vec![records.remove(Key::Program(host.ids[1])).unwrap()]),
        &[LinkWithoutProgram, LeftOver, LeftOver],
        &[],
    ),
    (
        "a chain has no links",
        |host| {
            host.falsify(|records| {
                let links = [host.ids[8], host.ids[9]];
                let remove = |id| records.remove(Key::Link(id)).unwrap();
                links.map(remove).into()
            });
        },
        &[ChainWithoutLinks],
        &[],
    ),
    (
        "links have no chain",
        |host| {
            let key = Key::Chain(host.key(Hook::Xdp));
            host.falsify(|records| vec![records.remove(key).unwrap()]);
        },
        &[LinkWithoutChain, LinkWithoutChain, LeftOver, LeftOver],
        &[],
    ),
    (
        "a clsact has no chain",
        |host| {
            let key = Key::Clsact {
                nsid: NSID,
                ifindex: host.bench.kernel.index("eth1"),
            };
            let iface = "eth1".to_owned();
            host.falsify(|records| {
                let clsact = ClsactRecord {
                    iface: iface.clone(),
                    netns: None,
                };
                vec![records.put(key, Some(&clsact)).unwrap()]
            });
        },
        &[ClsactUnused],
        &[],
    ),
    (
        "pins are left over",
        |host| {
            let bench = &host.bench;
            let program = bench.kernel.program_by_id(host.ids[2]).unwrap().unwrap();
            let link = LinkSpec::Tracepoint {
                program: &program,
                category: "sched",
                name: "sched_wakeup",
            };
            let link = bench.kernel.link(&link).unwrap();
            bench.kernel.pin(&link, &bench.fs("links/99")).unwrap();
            let map = bench.fs(&format!("maps/{}/counts", host.ids[2]));
            let map = bench.kernel.open_pin(&map).unwrap().unwrap();
            bench
                .kernel
                .pin(&map, &bench.fs("maps/by-name/counts"))
                .unwrap();
            bench.kernel.create_dir(&bench.fs("maps/99")).unwrap();
            bench.kernel.pin(&map, &bench.fs("maps/99/counts")).unwrap();
            let old = host.of_chain(Hook::Xdp, "1");
            bench.kernel.create_dir(&old).unwrap();
            bench.kernel.pin(&link, &old.join("link_0")).unwrap();
        },
        &[LeftOver, LeftOver, LeftOver, LeftOver],
        &[],
    ),
    (
        "others use our bpffs",
        |host| {
            let bench = &host.bench;
            bench.kernel.create_dir(&bench.fs("mine")).unwrap();
            bench.kernel.pin_foreign(&bench.fs("mine/program"));
            bench.kernel.pin_foreign(&bench.fs("prog_mine"));
            let old = host.of_chain(Hook::Xdp, "1");
            bench.kernel.create_dir(&old).unwrap();
            bench.kernel.pin_foreign(&old.join("mine"));
            let current = host.of_chain(Hook::Xdp, "2");
            bench.kernel.pin_foreign(&current.join("mine"));
        },
        &[Unknown, Unknown, Unknown, Unknown],
        &[Unknown, Unknown, Unknown, Unknown],
    ),
    (
        "a filter has no record",
        |host| {
            let remove = |key| move |records: &Store| vec![records.remove(key).unwrap()];
            host.falsify(remove(Key::Chain(host.key(Hook::Tc(Ingress)))));
        },
        &[
            LinkWithoutChain,
            LinkWithoutChain,
            ClsactUnused,
            LeftOver,
            FilterLeftOver,
        ],
        &[FilterLeftOver],
    ),
    (
        "the journal cannot be read",
        |host| fs::write(host.bench.run_dir().join("journal"), "nonsense\n").unwrap(),
        &[JournalUnreadable],
        &[],
    ),
    (
        "a record cannot be read",
        |host| {
            host.falsify(|records| {
                vec![records.put(Key::Program(9999), Some(&"nonsense")).unwrap()]
            });
        },
        &[RecordsUnreadable],
        &[RecordsUnreadable],
    ),
];

#[test]
fn each_difference_is_named_and_mended() {
    for (name, damage, expected, left) in CASES {
        let host = Host::new();
        damage(&host);
        let foreign = host.foreign();
        assert!(foreign.len() > 2, "{name}: {foreign:?}");
        let snapshot = host.bench.kernel.snapshot();
        assert_eq!(host.found(), *expected, "{name}");
        assert_eq!(
            host.bench.kernel.snapshot(),
            snapshot,
            "{name}: looking changed it"
        );
        let diagnosed = host.bench.loader.repair().unwrap();
        let failed: Vec<_> = diagnosed
            .iter()
            .filter(|found| matches!(found.outcome, Outcome::Failed(_)))
            .collect();
        assert!(failed.is_empty(), "{name}: {failed:#?}");
        let kept: Vec<_> = diagnosed
            .iter()
            .filter(|found| matches!(found.outcome, Outcome::Left))
            .map(|found| found.finding.kind)
            .collect();
        assert_eq!(kept, *left, "{name}");
        assert_eq!(host.found(), *left, "{name}, again");
        assert_eq!(host.foreign(), foreign, "{name}");
        if left.is_empty() {
            host.bench.assert_agreement(name);
        }
    }
}

fn rebuilt(bench: &Bench, guard: &mut Guard, hook: Hook) -> Result<(), LoaderError> {
    bench.loader.rebuild(
        guard,
        ChainKey {
            hook,
            nsid: NSID,
            ifindex: bench.kernel.index("eth0"),
        },
    )
}

#[test]
fn a_repair_that_fails_changes_nothing() {
    let chain = |bench: &Bench, hook: Hook, end: &str| {
        let eth0 = bench.kernel.index("eth0");
        bench.fs(&format!("{}/dispatcher_{NSID}_{eth0}_{end}", hook.folder()))
    };
    let cases: [(&str, Hook, &str, faults::Act); 3] = [
        (
            "a slot is empty",
            Hook::Xdp,
            "2/link_0",
            |bench, guard, _| rebuilt(bench, guard, Hook::Xdp),
        ),
        ("the link is gone", Hook::Xdp, "link", |bench, guard, _| {
            rebuilt(bench, guard, Hook::Xdp)
        }),
        (
            "a slot of TC is empty",
            Hook::Tc(Ingress),
            "2/link_0",
            |bench, guard, _| rebuilt(bench, guard, Hook::Tc(Ingress)),
        ),
    ];
    for (name, hook, lost, act) in cases {
        let prepare = || {
            let host = Host::new();
            host.bench
                .kernel
                .unpin(&chain(&host.bench, hook, lost))
                .unwrap();
            (host.bench, host.ids)
        };
        faults::every_call_fails_on(name, prepare, act);
    }
}

#[test]
fn without_bpffs_nothing_is_taken_for_gone() {
    let host = Host::new();
    host.bench.kernel.unmount();
    let before = host.bench.records();
    host.bench.kernel.refuse_mounts(true);
    let found = host.bench.loader.repair().unwrap();
    let failed = |found: &Diagnosis| matches!(found.outcome, Outcome::Failed(_));
    assert!(failed(&found[0]), "{:?}", found[0]);
    assert!(!found[1..].iter().any(failed), "{found:#?}");
    assert_eq!(host.bench.records(), before);
    host.bench.kernel.refuse_mounts(false);
    host.bench.loader.repair().unwrap();
    host.bench.assert_agreement("mounted");
}
