//! Operations on files of the runtime folder fail: the Nth, for every N, or all that need room.

use std::cell::Cell;
use std::io;

use super::faults::{CASES, Case};
use super::*;
use crate::state::Operation;

/// How operations fail, with which error.
#[derive(Debug, Clone, Copy, Default)]
enum Fault {
    #[default]
    None,
    /// The Nth from now.
    Nth(usize, i32),
    /// Every one that needs room which was not set aside.
    Full(i32),
}

thread_local! {
    static FAULT: Cell<Fault> = const { Cell::new(Fault::None) };
    static OPERATIONS: Cell<usize> = const { Cell::new(0) };
}

/// Called before each operation.
pub(crate) fn check(operation: Operation) -> io::Result<()> {
    use Operation::{Create, MakeFolder, Write};

    OPERATIONS.set(OPERATIONS.get() + 1);
    let errno = match FAULT.get() {
        Fault::Nth(1, errno) => {
            FAULT.set(Fault::None);
            errno
        }
        Fault::Nth(n, errno) => {
            FAULT.set(Fault::Nth(n - 1, errno));
            return Ok(());
        }
        Fault::Full(errno) if matches!(operation, Create | MakeFolder | Write) => errno,
        Fault::None | Fault::Full(_) => return Ok(()),
    };
    Err(io::Error::from_raw_os_error(errno))
}

const ERRORS: [i32; 5] = [
    libc::ENOSPC,
    libc::EDQUOT,
    libc::EIO,
    libc::EMFILE,
    libc::ENOMEM,
];

fn prepared(case: &Case) -> (Bench, Vec<u32>) {
    let bench = Bench::new();
    let ids = (case.prepare)(&bench);
    (bench, ids)
}

/// Does the act of a case while operations fail. Whether they are still to fail, and what became of it.
fn act_with(
    case: &Case,
    bench: &Bench,
    ids: &[u32],
    fault: Fault,
) -> (bool, Result<(), LoaderError>) {
    let mut guard = bench.lock();
    FAULT.set(fault);
    let done = (case.act)(bench, &mut guard, ids);
    let left = FAULT.replace(Fault::None);
    (matches!(left, Fault::Nth(..)), done)
}

#[test]
fn failed_operation_leaves_everything_as_before_or_is_made_up_for() {
    for case in &CASES {
        let name = case.name;
        for turn in 0..2 {
            let (mut bench, mut ids) = prepared(case);
            let (mut before, mut records) = (bench.kernel.snapshot(), bench.records());
            for n in 1.. {
                // The first error always, the others in turns.
                let errno = ERRORS[if turn == 0 { 0 } else { 1 + n % 4 }];
                let (armed, done) = act_with(case, &bench, &ids, Fault::Nth(n, errno));
                let context = format!("{name}, operation {n}, errno {errno}: {done:?}");
                // The next command finds nothing half done.
                bench.assert_agreement(&context);
                if done.is_ok() {
                    assert_ne!(bench.records(), records, "{context}");
                    if armed {
                        assert!(n > 4, "{context}: only {n} operations");
                        break;
                    }
                    (bench, ids) = prepared(case);
                    (before, records) = (bench.kernel.snapshot(), bench.records());
                } else {
                    assert_eq!(bench.kernel.snapshot(), before, "{context}");
                    assert_eq!(bench.records(), records, "{context}");
                }
            }
        }
    }
}

#[test]
fn full_disk_stops_what_adds_and_nothing_else() {
    for case in &CASES {
        for errno in [libc::ENOSPC, libc::EDQUOT] {
            let (bench, ids) = prepared(case);
            let (before, records) = (bench.kernel.snapshot(), bench.records());
            let (_, done) = act_with(case, &bench, &ids, Fault::Full(errno));
            let context = format!("{}, errno {errno}: {done:?}", case.name);
            bench.assert_agreement(&context);
            let adds = case.name.starts_with("load") || case.name.starts_with("attach");
            assert_eq!(done.is_err(), adds, "{context}");
            if let Err(error) = done {
                assert_eq!(bench.kernel.snapshot(), before, "{context}");
                assert_eq!(bench.records(), records, "{context}");
                assert!(error.hint().unwrap().contains("make room"), "{context}");
                // And the same works once there is room.
                (case.act)(&bench, &mut bench.lock(), &ids).unwrap();
            }
            bench.assert_agreement(&context);
        }
    }
}

#[test]
fn load_costs_the_same_however_many_programs_there_are() {
    let bench = Bench::new();
    let operations = |words: &[&str]| {
        let mut guard = bench.lock();
        let before = OPERATIONS.get();
        bench.loader.load(&mut guard, request(words)).unwrap();
        OPERATIONS.get() - before
    };
    let id = bench.load(&["xdp:pass"])[0];
    let alone = operations(&["xdp:xdp_stats"]);
    let programs = bench.run_dir().join("records/programs");
    for other in 1000..1500 {
        let from = programs.join(format!("{id}.json"));
        std::fs::copy(from, programs.join(format!("{other}.json"))).unwrap();
    }
    assert_eq!(operations(&["xdp:xdp_stats"]), alone);
    assert!(alone < 40, "{alone}");
}

#[test]
fn records_are_files_that_a_person_can_read() {
    let bench = Bench::new();
    let id = bench.load(&["xdp:pass"])[0];
    let link = bench.attach(id, xdp("eth0", 50));
    let read = |path: &str| std::fs::read_to_string(bench.run_dir().join(path)).unwrap();
    let program = read(&format!("records/programs/{id}.json"));
    assert!(
        program.starts_with("{\n  \"") && program.ends_with("}\n"),
        "{program}"
    );
    assert!(program.contains("\"function\": \"pass\""), "{program}");
    assert!(read(&format!("records/links/{link}.json")).contains("\"priority\": 50"));
    assert_eq!(
        std::fs::read_dir(bench.run_dir().join("records/xdp"))
            .unwrap()
            .count(),
        1
    );
    // What an editor leaves there stops nobody.
    for stray in [
        "programs/7.json~",
        "programs/.7.json.swp",
        "programs/07.json",
        "links/notes",
    ] {
        std::fs::write(bench.run_dir().join("records").join(stray), "x").unwrap();
    }
    assert_eq!(listing(&bench, &ProgramFilter::default()), [id]);
    bench.unload(id);
    assert!(listing(&bench, &ProgramFilter::default()).is_empty());
}

#[test]
fn database_of_an_earlier_version_is_named_and_removed() {
    use crate::{FindingKind, Outcome};

    let bench = Bench::new();
    let id = bench.load(&["xdp:pass"])[0];
    let state = bench.run_dir().join("state");
    std::fs::create_dir_all(state.join("blobs")).unwrap();
    std::fs::write(state.join("db"), "sled").unwrap();
    let outside = bench.dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("kept"), "").unwrap();
    std::os::unix::fs::symlink(&outside, state.join("link")).unwrap();
    let found = bench.loader.doctor().unwrap();
    let kinds = || found.iter().map(|diagnosis| diagnosis.finding.kind);
    assert!(kinds().eq([FindingKind::OldDatabase]), "{found:#?}");
    assert!(found[0].finding.place.ends_with("/state"), "{found:#?}");
    let repaired = bench.loader.repair().unwrap();
    assert!(matches!(repaired[..], [ref one] if matches!(one.outcome, Outcome::Repaired)));
    assert!(!state.exists() && outside.join("kept").exists());
    bench.assert_agreement("without the database");
    assert_eq!(listing(&bench, &ProgramFilter::default()), [id]);
}

#[test]
fn copy_of_an_earlier_version_makes_way_for_records() {
    let bench = Bench::new();
    std::fs::create_dir(bench.run_dir()).unwrap();
    std::fs::write(bench.run_dir().join("records"), "1:2 3 bytes, 4.5\n").unwrap();
    assert!(listing(&bench, &ProgramFilter::default()).is_empty());
    assert_eq!(bench.loader.doctor().unwrap().len(), 1);
    let id = bench.load(&["xdp:pass"])[0];
    assert_eq!(listing(&bench, &ProgramFilter::default()), [id]);
    bench.assert_agreement("after a load");
}
