//! What an interrupted command left, where it can be neither finished nor undone as it was meant to be.

use std::fs;

use super::*;
use crate::kernel::Kernel;
use crate::{Diagnosis, FindingKind};

/// A chain of two, and an attach that died with its commit line written and nothing of the commit done.
fn cut_off(bench: &Bench) -> Vec<u32> {
    let ids = bench.load(&["xdp:pass", "xdp:xdp_stats"]);
    bench.attach(ids[0], xdp("eth0", 50));
    let (chain, journal) = (bench.kernel.snapshot(), bench.run_dir().join("journal"));
    let moment = |n: usize| {
        let mut guard = bench.lock();
        kill::at_moment(n);
        let point = xdp("eth0", 60);
        let metadata = BTreeMap::new();
        let request = AttachRequest { point, metadata };
        let attached = kill::run(|| bench.loader.attach(&mut guard, ids[1], request));
        kill::at_moment(0);
        assert!(attached.is_none(), "moment {n}");
    };
    for n in 1.. {
        moment(n);
        let text = fs::read_to_string(&journal).unwrap();
        if text.contains("\"commit\"") {
            break;
        }
        drop(bench.lock());
        assert_eq!(bench.kernel.snapshot(), chain);
    }
    ids
}

fn kinds(found: &[Diagnosis]) -> Vec<FindingKind> {
    found.iter().map(|found| found.finding.kind).collect()
}

#[test]
fn a_swap_that_the_driver_refuses_for_good_is_undone() {
    let bench = Bench::new();
    let ids = cut_off(&bench);
    // As drivers do once the MTU was raised above what they take for XDP.
    bench.kernel.refuse_updates(Some(libc::EINVAL));
    drop(bench.lock());
    bench.assert_agreement("undone");
    assert_eq!(bench.chain("eth0").len(), 1);
    let error = bench.try_attach(ids[1], xdp("eth0", 60)).unwrap_err();
    assert!(matches!(error, LoaderError::ChainRefused { .. }), "{error}");
    assert!(error.hint().unwrap().contains("xdp.frags"), "{error}");
    bench.assert_agreement("refused");
    bench.kernel.refuse_updates(None);
    bench.attach(ids[1], xdp("eth0", 60));
    bench.assert_agreement("attached again");
}

#[test]
fn who_dies_while_undoing_a_refused_swap_leaves_that_to_the_next() {
    for n in 1.. {
        let bench = Bench::new();
        let _ = cut_off(&bench);
        bench.kernel.refuse_updates(Some(libc::EINVAL));
        bench.kernel.crash_at(n);
        let locked = kill::run(|| bench.loader.lock().map(drop));
        bench.kernel.crash_at(0);
        // The driver may take it by then: what was begun to be undone is not finished any more.
        bench.kernel.refuse_updates(None);
        drop(bench.lock());
        bench.assert_agreement(&format!("died at call {n}"));
        if let Some(locked) = locked {
            locked.unwrap();
            assert!(n > 6, "only {n} calls");
            break;
        }
    }
}

#[test]
fn the_records_may_be_gone() {
    let bench = Bench::new();
    let _ = cut_off(&bench);
    fs::remove_dir_all(bench.run_dir().join("records")).unwrap();
    drop(bench.lock());
    let found = bench.loader.doctor().unwrap();
    assert!(
        !found.is_empty()
            && kinds(&found)
                .iter()
                .all(|kind| *kind == FindingKind::LeftOver),
        "{found:#?}"
    );
}

#[test]
fn what_others_put_into_a_folder_of_ours_stops_nobody() {
    let bench = Bench::new();
    let ids = cut_off(&bench);
    let folder = bench.kernel.dirs().into_iter().find(|path| {
        path.to_string_lossy().ends_with("_1") && path.parent() == Some(&bench.fs("xdp"))
    });
    let foreign = folder.unwrap().join("mine");
    bench.kernel.pin_foreign(&foreign);
    let link = bench.attach(ids[0], xdp("eth1", 50));
    assert_eq!(bench.chain("eth0").len(), 2);
    let found = bench.loader.doctor().unwrap();
    assert_eq!(
        kinds(&found),
        [FindingKind::ChangeUnfinished, FindingKind::Unknown],
        "{found:#?}"
    );
    bench.kernel.unpin(&foreign).unwrap();
    bench.detach(link);
    bench.assert_agreement("when it is gone");
}

#[test]
fn a_journal_that_cannot_be_read_stops_changes_only() {
    let bench = Bench::new();
    let ids = bench.load(&["xdp:pass"]);
    let journal = bench.run_dir().join("journal");
    fs::write(&journal, "nonsense\n").unwrap();
    let error = bench.loader.lock().unwrap_err();
    assert!(
        error
            .hint()
            .unwrap()
            .contains(&journal.display().to_string()),
        "{error}"
    );
    let guard = bench.loader.lock_to_read().unwrap();
    assert_eq!(
        bench.loader.program(&guard, ids[0]).unwrap().kernel.id,
        ids[0]
    );
    drop(guard);
    let found = bench.loader.doctor().unwrap();
    assert_eq!(kinds(&found), [FindingKind::JournalUnreadable]);
    assert_eq!(fs::read_to_string(&journal).unwrap(), "nonsense\n");
}

#[test]
fn what_two_commands_left_is_not_forgotten_for_a_third() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::new();
    let ids = bench.load(&["xdp:pass"]);
    let journal = bench.run_dir().join("journal");
    // A folder that cannot be removed stops nobody, and stays in the journal.
    let folder = bench.fs("maps/9000");
    bench.kernel.create_dir(&folder).unwrap();
    bench.kernel.pin_foreign(&folder.join("mine"));
    let lines = format!(
        "{{\"begin\":{{\"what\":\"a\"}}}}\n{{\"build\":{{\"create_dir\":{{\"path\":\"{}\"}}}}}}\n",
        folder.display()
    );
    fs::write(&journal, lines).unwrap();
    let mut guard = bench.lock();
    let mode = fs::metadata(&journal).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // Then bpffs is remounted read-only in the middle of a command, which can take back nothing.
    let request = AttachRequest {
        point: xdp("eth0", 50),
        metadata: BTreeMap::new(),
    };
    bench.kernel.read_only_at(16);
    let attached = bench.loader.attach(&mut guard, ids[0], request);
    bench.kernel.read_only_at(0);
    attached.unwrap_err();
    drop(guard);
    let text = fs::read_to_string(&journal).unwrap();
    assert!(
        text.contains("maps/9000") && text.contains("xdp/dispatcher"),
        "{text}"
    );
    bench.kernel.unpin(&folder.join("mine")).unwrap();
    bench.assert_agreement("when all can be removed");
}

#[test]
fn a_folder_left_over_from_records_that_were_removed_is_passed_over() {
    let bench = Bench::new();
    let id = bench.load(&["tc:tc_pass"])[0];
    bench.attach(id, tc("eth0", TcDirection::Egress, 50));
    fs::remove_dir_all(bench.run_dir().join("records")).unwrap();
    let before = bench.kernel.pins();
    let id = bench.load(&["tc:tc_pass"])[0];
    bench.attach(id, tc("eth0", TcDirection::Egress, 50));
    let after = bench.kernel.pins();
    assert!(before.iter().all(|(path, id)| after.get(path) == Some(id)));
    assert!(after.len() > before.len());
}

#[test]
fn what_is_in_the_way_is_named_and_stays() {
    let bench = Bench::new();
    let id = bench.load(&["xdp:pass"])[0];
    let program = bench.kernel.program_by_id(id).unwrap().unwrap();
    let path = bench.fs("prog_7777");
    bench.kernel.pin_foreign(&path);
    let before = bench.kernel.snapshot();
    let mut guard = bench.lock();
    let pinned = crate::change::run(&bench.kernel, &mut guard, "pinning it", |change| {
        change.pin(&program, &path)
    });
    let error = pinned.unwrap_err();
    assert!(matches!(&error, LoaderError::InTheWay { path: there, .. } if *there == path));
    assert!(error.hint().is_some());
    let folder = bench.fs("maps");
    let made = crate::change::run(&bench.kernel, &mut guard, "making it", |change| {
        change.create_dir(&folder)
    });
    assert!(matches!(made, Err(LoaderError::InTheWay { .. })));
    assert_eq!(bench.kernel.snapshot(), before);
    // Nothing of it was in the journal either, for the next command to undo.
    assert!(
        !bench.run_dir().join("journal").exists()
            || fs::read(bench.run_dir().join("journal"))
                .unwrap()
                .is_empty()
    );
}
