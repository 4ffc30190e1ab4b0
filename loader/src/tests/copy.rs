//! The copy of the records, which readers have instead of the database.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::*;

fn listed(bench: &Bench) -> Vec<u32> {
    let programs = bench
        .loader
        .programs(&bench.lock(), &ProgramFilter::default());
    programs.unwrap().iter().map(|program| program.id).collect()
}

/// The file's text, after a reader.
fn copy(bench: &Bench) -> String {
    fs::read_to_string(bench.run_dir().join("records")).unwrap()
}

#[test]
fn the_first_reader_makes_it_and_a_change_removes_it() {
    let bench = Bench::new();
    let path = bench.run_dir().join("records");
    assert!(listed(&bench).is_empty());
    assert!(!path.exists(), "there was nothing to copy");
    let mut ids = bench.load(&["xdp:pass"]);
    assert!(!path.exists(), "a change makes none");
    assert_eq!(listed(&bench), ids);
    let made = path.metadata().unwrap();
    assert_eq!(made.mode() & 0o777, 0o600);
    assert_eq!(listed(&bench), ids);
    assert_eq!(
        path.metadata().unwrap().ino(),
        made.ino(),
        "it is made once"
    );
    ids.extend(bench.load(&["xdp:xdp_stats"]));
    assert!(!path.exists());
    assert_eq!(listed(&bench), ids);
    bench.unload(ids[0]);
    assert_eq!(listed(&bench), ids[1..]);
}

#[test]
fn readers_of_the_copy_open_no_database() {
    let bench = Bench::new();
    let ids = bench.load(&["xdp:pass"]);
    bench.attach(ids[0], xdp("eth0", 50));
    listed(&bench);
    let guard = bench.lock();
    // Who opened it now would be refused: sled locks its file.
    let database = fs::File::open(bench.run_dir().join("state/db")).unwrap();
    rustix::fs::flock(&database, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let programs = bench.loader.programs(&guard, &ProgramFilter::default());
    assert_eq!(programs.unwrap().len(), 1);
    let links = bench.loader.links(&guard, &LinkFilter::default()).unwrap();
    assert_eq!(links.len(), 1);
    let program = bench.loader.program(&guard, ids[0]).unwrap();
    assert_eq!(program.managed.unwrap().links[0].id, links[0].id);
}

#[test]
fn a_copy_that_is_not_of_the_database_as_it_is_is_none() {
    let bench = Bench::new();
    let ids = bench.load(&["xdp:pass"]);
    listed(&bench);
    let path = bench.run_dir().join("records");
    let spoils: [fn(&str, &str) -> String; 4] = [
        |_, _| String::new(),
        |_, lines| lines.to_owned(),
        |stamp, _| format!("{stamp}0\n"),
        |stamp, _| format!("{stamp}\nno-value\n"),
    ];
    for spoil in spoils {
        let whole = copy(&bench);
        let (stamp, lines) = whole.split_once('\n').unwrap();
        let spoiled = spoil(stamp, lines);
        fs::write(&path, &spoiled).unwrap();
        assert_eq!(listed(&bench), ids, "{spoiled:?}");
        // sled writes to its file when it opens it, so that the stamp is another one.
        let again = copy(&bench);
        assert_eq!(again.split_once('\n').unwrap().1, lines, "{spoiled:?}");
    }
    fs::write(&path, b"\xff\xfe").unwrap();
    assert_eq!(listed(&bench), ids);
}

#[test]
fn where_it_cannot_be_made_readers_read_the_database() {
    let bench = Bench::new();
    let ids = bench.load(&["xdp:pass"]);
    fs::create_dir(bench.run_dir().join("records.new")).unwrap();
    assert_eq!(listed(&bench), ids);
    assert!(!bench.run_dir().join("records").exists());
}

#[test]
fn what_cannot_be_removed_stops_a_change_before_it_begins_to_write() {
    let bench = Bench::new();
    let ids = bench.load(&["xdp:pass"]);
    // A folder is no copy, and no file that could be removed.
    fs::create_dir(bench.run_dir().join("records")).unwrap();
    let (kernel, request) = (bench.kernel.snapshot(), request(&["xdp:xdp_stats"]));
    let error = bench.loader.load(&mut bench.lock(), request).unwrap_err();
    assert!(error.to_string().contains("records"), "{error}");
    assert_eq!((listed(&bench), bench.kernel.snapshot()), (ids, kernel));
}
