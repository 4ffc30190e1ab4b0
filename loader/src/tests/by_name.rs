//! Maps that objects share by their names (`LIBBPF_PIN_BY_NAME`): how long they live, and that neither a failed call nor a
//! process that dies leaves them half done.

use super::crash::{CALLS, WRITES, every_moment};
use super::faults::{Case, every_call_fails};
use super::*;

/// A request for programs of an object that shares these maps by name.
fn sharing(words: &[&str], maps: &[&str]) -> LoadRequest {
    let sections = [(".maps", vec![0; 16 * maps.len()]), (".BTF", btf(maps))];
    request_with(words, &sections)
}

/// Types as the compiler writes them for hash maps with `__uint(pinning, LIBBPF_PIN_BY_NAME)`
/// (`Documentation/bpf/btf.rst`).
fn btf(maps: &[&str]) -> Vec<u8> {
    let mut strings = vec![0];
    let mut string = |text: &str| {
        let at = strings.len() as u32;
        strings.extend(text.as_bytes());
        strings.push(0);
        at
    };
    // struct btf_type: name, kind and number of members, size or type; then its own data
    let kind = |kind: u32, members: u32| kind << 24 | members;
    let mut types = Vec::new();
    // 1: int; 2: int [1]; 3: int (*)[1], which says 1: BPF_MAP_TYPE_HASH, LIBBPF_PIN_BY_NAME
    types.extend([string("int"), kind(1, 0), 4, 0x0100_0020]);
    types.extend([0, kind(3, 0), 0, 1, 1, 1]);
    types.extend([0, kind(2, 0), 2]);
    // 4: struct { type; pinning; }
    types.extend([0, kind(4, 2), 16]);
    types.extend([string("type"), 3, 0, string("pinning"), 3, 64]);
    // 5…: the variables, and the section with all of them
    for map in maps {
        types.extend([string(map), kind(14, 0), 4, 1]);
    }
    types.extend([string(".maps"), kind(15, maps.len() as u32), 0]);
    for place in 0..maps.len() as u32 {
        types.extend([5 + place, 16 * place, 16]);
    }
    let (length, end) = (4 * types.len() as u32, strings.len() as u32);
    // magic, version and flags are one word in either byte order
    let magic = u32::from_ne_bytes([0x9f, 0xeb, 1, 0]);
    let magic = if cfg!(target_endian = "big") {
        magic.rotate_left(8)
    } else {
        magic
    };
    let header = [magic, 24, 0, length, length, end];
    let words = header.into_iter().chain(types);
    words.flat_map(u32::to_ne_bytes).chain(strings).collect()
}

fn load(bench: &Bench, request: LoadRequest) -> Vec<u32> {
    ids(&bench.loader.load(&mut bench.lock(), request).unwrap())
}

const SWITCH: &[&str] = &["tracepoint:on_switch"];
const KILL: &[&str] = &["tracepoint:on_kill_with_a_long_name"];

/// What is pinned at a path below our bpffs: a map by its id and name.
fn pinned(bench: &Bench, path: &str) -> Option<String> {
    let path = format!("pin {} = ", bench.fs(path).display());
    let snapshot = bench.kernel.snapshot();
    snapshot
        .iter()
        .find_map(|line| line.strip_prefix(&path))
        .map(str::to_owned)
}

/// The maps that are shared by name now.
fn shared(bench: &Bench) -> Vec<String> {
    let folder = bench.fs("maps/by-name");
    let entries = bench.kernel.list_dir(&folder).unwrap();
    entries.into_iter().map(|entry| entry.name).collect()
}

#[test]
fn a_map_lives_as_long_as_one_of_those_who_share_it() {
    let bench = Bench::new();
    let first = load(&bench, sharing(SWITCH, &["everybodys"]))[0];
    let map = pinned(&bench, "maps/by-name/everybodys").unwrap();
    let here = |id: u32| pinned(&bench, &format!("maps/{id}/everybodys"));
    assert_eq!(here(first).as_ref(), Some(&map));
    // Another one has a map more; others that are not shared are its own.
    let second = load(&bench, sharing(KILL, &["everybodys", "more"]))[0];
    assert_eq!(here(second).as_ref(), Some(&map));
    assert_ne!(
        pinned(&bench, &format!("maps/{first}/counts")),
        pinned(&bench, &format!("maps/{second}/counts"))
    );
    assert_eq!(shared(&bench), ["everybodys", "more"]);
    bench.assert_agreement("two loads");

    bench.unload(first);
    assert_eq!(shared(&bench), ["everybodys", "more"]);
    assert_eq!(here(first), None);
    // With the maps of an owner, whose own folder outlives it.
    let mut guest = sharing(SWITCH, &["everybodys"]);
    guest.map_owner_id = Some(second);
    let guest = load(&bench, guest)[0];
    bench.unload(second);
    assert_eq!(shared(&bench), ["everybodys"]);
    assert_eq!(here(second).as_ref(), Some(&map));
    assert_eq!(pinned(&bench, "maps/by-name/everybodys"), Some(map));
    bench.assert_agreement("a guest");
    bench.unload(guest);
    assert_eq!(shared(&bench), [""; 0]);
    bench.assert_agreement("the end");
    // What comes after begins anew.
    load(&bench, sharing(SWITCH, &["everybodys"]));
    assert_eq!(shared(&bench), ["everybodys"]);
    bench.assert_agreement("anew");
}

/// The folders that stay are there from the first load on.
fn standing(bench: &Bench) -> Vec<u32> {
    let ids = bench.load(SWITCH);
    bench.unload(ids[0]);
    ids
}

/// Two programs of one object, and one of another that shares its map.
fn three_users(bench: &Bench) -> Vec<u32> {
    let mut all = load(
        bench,
        sharing(&["tracepoint:on_switch", "xdp:pass"], &["everybodys"]),
    );
    all.extend(load(bench, sharing(KILL, &["everybodys", "more"])));
    for (program, point) in [(0, tracepoint("sched/sched_switch")), (1, xdp("eth0", 1))] {
        all.push(bench.attach(all[program], point));
    }
    all
}

const CASES: [Case; 9] = [
    Case {
        name: "load of the first that shares a map by name",
        prepare: standing,
        act: |bench, guard, _| {
            let request = sharing(
                &["tracepoint:on_switch", "xdp:pass"],
                &["everybodys", "more"],
            );
            bench.loader.load(guard, request).map(|_| ())
        },
    },
    Case {
        name: "load of the second",
        prepare: |bench| load(bench, sharing(SWITCH, &["everybodys"])),
        act: |bench, guard, _| {
            let request = sharing(KILL, &["everybodys"]);
            bench.loader.load(guard, request).map(|_| ())
        },
    },
    Case {
        name: "load of the second, one map of which is new",
        prepare: |bench| load(bench, sharing(SWITCH, &["everybodys"])),
        act: |bench, guard, _| {
            let request = sharing(KILL, &["before", "everybodys", "more"]);
            bench.loader.load(guard, request).map(|_| ())
        },
    },
    Case {
        name: "load with the maps of one that shares by name",
        prepare: |bench| load(bench, sharing(SWITCH, &["everybodys"])),
        act: |bench, guard, ids| {
            let mut request = sharing(KILL, &["everybodys", "more"]);
            request.map_owner_id = Some(ids[0]);
            bench.loader.load(guard, request).map(|_| ())
        },
    },
    Case {
        name: "unload of one of two users of one object",
        prepare: three_users,
        act: |bench, guard, ids| bench.loader.unload(guard, ids[0]),
    },
    Case {
        name: "unload of the first, which the second outlives",
        prepare: |bench| {
            let ids = three_users(bench);
            bench.unload(ids[0]);
            ids
        },
        act: |bench, guard, ids| bench.loader.unload(guard, ids[1]),
    },
    Case {
        name: "unload of the second, which has a map of its own",
        prepare: three_users,
        act: |bench, guard, ids| bench.loader.unload(guard, ids[2]),
    },
    Case {
        name: "unload of the last",
        prepare: |bench| {
            let ids = three_users(bench);
            bench.unload(ids[0]);
            bench.unload(ids[1]);
            ids
        },
        act: |bench, guard, ids| bench.loader.unload(guard, ids[2]),
    },
    Case {
        name: "unload of a guest, the last",
        prepare: |bench| {
            let mut ids = load(bench, sharing(SWITCH, &["everybodys"]));
            let mut guest = sharing(KILL, &["everybodys"]);
            guest.map_owner_id = Some(ids[0]);
            ids.extend(load(bench, guest));
            bench.unload(ids[0]);
            ids
        },
        act: |bench, guard, ids| bench.loader.unload(guard, ids[1]),
    },
];

#[test]
fn a_failed_call_leaves_everything_as_it_was() {
    for case in CASES {
        every_call_fails(&case);
    }
}

#[test]
fn a_process_that_dies_leaves_no_difference() {
    for case in CASES {
        every_moment(&case, WRITES);
        every_moment(&case, CALLS);
    }
}
