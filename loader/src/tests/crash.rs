//! The process dies, at every write to the journal and at every kernel call: the next command finds and leaves
//! kernel, bpffs and records in agreement.

use super::faults::{Act, Case, attach};
use super::*;

/// Eight links of five programs. One guard for all: opening the database is what takes the time of these tests.
fn prepare(bench: &Bench) -> Vec<u32> {
    let mut guard = bench.lock();
    let words = [
        "xdp:pass",
        "xdp:xdp_stats",
        "tracepoint:on_switch",
        "tc:tc_pass",
        "tcx:tcx_stats",
    ];
    let mut all = ids(&bench.loader.load(&mut guard, request(&words)).unwrap());
    for (program, point) in [
        (0, xdp("eth0", 50)),
        (1, xdp("eth0", 60)),
        (0, xdp("eth0", 70)),
        (1, xdp("eth1", 5)),
        (2, tracepoint("sched/sched_switch")),
        (3, tc("eth0", TcDirection::Ingress, 50)),
        (3, tc("eth0", TcDirection::Ingress, 60)),
        (3, tc("eth1", TcDirection::Egress, 50)),
    ] {
        let metadata = BTreeMap::new();
        let request = AttachRequest { point, metadata };
        all.push(
            bench
                .loader
                .attach(&mut guard, all[program], request)
                .unwrap()
                .id,
        );
    }
    all
}

const ACTS: [(&str, Act); 12] = [
    ("load", |bench, guard, _| {
        let words = ["xdp:pass", "tracepoint:on_switch", "xdp:xdp_stats"];
        bench.loader.load(guard, request(&words)).map(|_| ())
    }),
    ("attach xdp", |bench, guard, ids| {
        attach(bench, guard, ids[1], xdp("eth0", 55))
    }),
    ("attach tracepoint", |bench, guard, ids| {
        attach(bench, guard, ids[2], tracepoint("sched/sched_wakeup"))
    }),
    ("detach xdp", |bench, guard, ids| {
        bench.loader.detach(guard, ids[6])
    }),
    ("detach last xdp", |bench, guard, ids| {
        bench.loader.detach(guard, ids[8])
    }),
    ("detach tracepoint", |bench, guard, ids| {
        bench.loader.detach(guard, ids[9])
    }),
    ("attach first tc", |bench, guard, ids| {
        attach(bench, guard, ids[3], tc("eth1", TcDirection::Ingress, 5))
    }),
    ("attach tc", |bench, guard, ids| {
        attach(bench, guard, ids[3], tc("eth0", TcDirection::Ingress, 5))
    }),
    ("attach tcx", |bench, guard, ids| {
        attach(bench, guard, ids[4], tcx("eth0", TcDirection::Ingress, 5))
    }),
    ("detach last tc", |bench, guard, ids| {
        bench.loader.detach(guard, ids[12])
    }),
    ("unload tc", |bench, guard, ids| {
        bench.loader.unload(guard, ids[3])
    }),
    ("unload", |bench, guard, ids| {
        bench.loader.unload(guard, ids[1])
    }),
];

/// Runs `act` and lets it die as `arm` says. What is in the files at that moment is what the next command finds,
/// without what the database would still write on its way out. Returns whether it died.
fn dies(bench: &Bench, arm: &dyn Fn(&Bench), act: Act, ids: &[u32]) -> bool {
    let mut guard = bench.lock();
    arm(bench);
    let result = kill::run(|| act(bench, &mut guard, ids));
    kill::at_moment(0);
    bench.kernel.crash_at(0);
    let image = bench.dir.path().join("image");
    copy_dir(&bench.run_dir(), &image);
    drop(guard);
    if let Some(result) = result {
        result.unwrap();
        std::fs::remove_dir_all(&image).unwrap();
        return false;
    }
    std::fs::remove_dir_all(bench.run_dir()).unwrap();
    std::fs::rename(&image, bench.run_dir()).unwrap();
    true
}

/// The moments at which a process dies: what they are, and how the Nth is armed.
type Moments = (&'static str, fn(&Bench, usize));

pub(super) const WRITES: Moments = ("write", |_, n| kill::at_moment(n));
pub(super) const CALLS: Moments = ("call", |bench, n| bench.kernel.crash_at(n));

/// Lets the act of a case die at its Nth moment, for every N, on a fresh host each time.
pub(super) fn every_moment(case: &Case, (moments, arm): Moments) {
    let Case { name, prepare, act } = case;
    let mut outcomes = BTreeSet::new();
    for n in 1.. {
        let bench = Bench::new();
        let ids = prepare(&bench);
        let before = bench.records();
        if !dies(&bench, &|bench| arm(bench, n), *act, &ids) {
            assert!(n > 2, "{name}: no {moments}");
            assert_ne!(bench.records(), before, "{name} did nothing");
            break;
        }
        bench.assert_agreement(&format!("{name}, {moments} {n}"));
        outcomes.insert(bench.records() == before);
        // And the command works when it is given again.
        act(&bench, &mut bench.lock(), &ids)
            .or_else(|error| match error {
                LoaderError::NoSuchLink { .. }
                | LoaderError::NoSuchProgram { .. }
                | LoaderError::TcxTwice { .. } => Ok(()),
                error => Err(error),
            })
            .unwrap();
        bench.assert_agreement(&format!("{name} again, {moments} {n}"));
    }
    if moments == WRITES.0 {
        // Undone at the first moments, finished at the last.
        assert_eq!(outcomes, BTreeSet::from([true, false]), "{name}");
    }
}

fn each_act(moments: Moments) {
    for (name, act) in ACTS {
        every_moment(&Case { name, prepare, act }, moments);
    }
}

#[test]
fn at_a_write_to_the_journal() {
    each_act(WRITES);
}

#[test]
fn at_a_kernel_call() {
    each_act(CALLS);
}

#[test]
fn in_the_middle_of_undoing() {
    // The first failure starts the undoing, the death comes at each of its steps.
    for (name, act) in ACTS
        .into_iter()
        .filter(|(name, _)| ["load", "attach xdp", "unload"].contains(name))
    {
        for failing in 1.. {
            let bench = Bench::new();
            let ids = prepare(&bench);
            let mut guard = bench.lock();
            bench.kernel.fail_at(failing);
            let _ = act(&bench, &mut guard, &ids);
            let reached = !bench.kernel.is_armed();
            bench.kernel.fail_at(0);
            drop(guard);
            if !reached {
                break;
            }
            for later in 1.. {
                let bench = Bench::new();
                let ids = prepare(&bench);
                let arm = |bench: &Bench| {
                    bench.kernel.fail_at(failing);
                    bench.kernel.crash_at(failing + later);
                };
                let mut guard = bench.lock();
                arm(&bench);
                let result = kill::run(|| act(&bench, &mut guard, &ids));
                let died = result.is_none();
                bench.kernel.crash_at(0);
                bench.kernel.fail_at(0);
                drop(guard);
                if !died {
                    // A call that only looked at what was done may fail.
                    if result.unwrap().is_ok() {
                        bench.assert_agreement(&format!("{name}, call {failing} failed"));
                    }
                    break;
                }
                bench.assert_agreement(&format!(
                    "{name}, call {failing} failed, died {later} later"
                ));
            }
        }
    }
}

#[test]
fn what_cannot_be_undone_is_left_for_the_next_command() {
    let bench = Bench::new();
    let ids = prepare(&bench);
    let (before, records) = (bench.kernel.snapshot(), bench.records());
    bench.kernel.crash_at(0);
    // Dies with pins made; the next commands fail to remove one of them, the one after them does.
    let arm = |_: &Bench| kill::at_moment(11);
    assert!(dies(&bench, &arm, ACTS[0].1, &ids));
    assert_ne!(bench.kernel.snapshot(), before);
    bench.kernel.fail_at(1);
    let error = bench.loader.lock().unwrap_err();
    assert!(!bench.kernel.is_armed());
    assert_eq!(
        error.to_string(),
        "settling what an interrupted command left (loading prog.o)"
    );
    assert!(error.hint().unwrap().contains("bpfman doctor --repair"));
    assert_ne!(bench.kernel.snapshot(), before);
    bench.kernel.fail_at(1);
    let guard = bench.loader.lock_to_read().unwrap();
    let filter = ProgramFilter::default();
    assert_eq!(bench.loader.programs(&guard, &filter).unwrap().len(), 5);
    drop(guard);
    assert_eq!(bench.records(), records);
    assert_eq!(bench.kernel.snapshot(), before);
    bench.assert_agreement("after the third");
}
