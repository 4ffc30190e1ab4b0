//! Loading, showing and unloading.

use super::*;

#[test]
fn programs_of_one_load_share_their_maps() {
    let bench = Bench::new();
    let mut wanted = request(&["xdp:pass", "tracepoint:on_kill_with_a_long_name"]);
    wanted.globals.insert("limit".to_owned(), vec![1, 0, 0xff]);
    wanted
        .metadata
        .insert("bpfman_application".to_owned(), "app".to_owned());
    let programs = bench.loader.load(&mut bench.lock(), wanted).unwrap();
    let ids = ids(&programs);
    let (first, second) = (
        programs[0].managed.as_ref().unwrap(),
        programs[1].managed.as_ref().unwrap(),
    );
    assert_eq!(first.maps_used_by, ids);
    assert_eq!(first.map_pin_path, bench.fs(&format!("maps/{}", ids[0])));
    assert_eq!(
        (first.map_owner_id, second.map_owner_id),
        (None, Some(ids[0]))
    );
    assert_eq!(second.map_pin_path, first.map_pin_path);
    assert_eq!(second.function, "on_kill_with_a_long_name");
    assert_eq!(programs[1].kernel.name, "on_kill_with_a_");
    assert_eq!(programs[0].kernel.program_type, "xdp");
    assert_eq!(second.globals["limit"], [1, 0, 0xff]);
    assert_eq!(
        second.source,
        Source::File {
            path: "prog.o".to_owned()
        }
    );
    bench.assert_agreement("loaded");

    let shown = bench.loader.program(&bench.lock(), ids[1]).unwrap();
    assert_eq!(format!("{shown:?}"), format!("{:?}", programs[1]));

    // The first one's folder stays until the second one goes.
    bench.unload(ids[0]);
    bench.assert_agreement("half");
    let left = bench
        .loader
        .program(&bench.lock(), ids[1])
        .unwrap()
        .managed
        .unwrap();
    assert_eq!(left.maps_used_by, [ids[1]]);
    bench.unload(ids[1]);
    bench.assert_agreement("gone");
    assert!(bench.records().is_empty());
}

#[test]
fn maps_of_an_owner_are_used_and_outlive_it() {
    let bench = Bench::new();
    let owner = bench.load(&["tracepoint:on_switch"])[0];
    let maps = |id| {
        bench
            .loader
            .program(&bench.lock(), id)
            .unwrap()
            .kernel
            .map_ids
    };
    let mut wanted = request(&["xdp:pass"]);
    wanted.map_owner_id = Some(owner);
    let user = ids(&bench.loader.load(&mut bench.lock(), wanted).unwrap())[0];
    // Data sections cannot be pinned, so each load has its own.
    let shared = maps(owner)
        .iter()
        .filter(|id| maps(user).contains(id))
        .count();
    assert_eq!((shared, maps(user).len()), (2, 3));
    let state = bench
        .loader
        .program(&bench.lock(), user)
        .unwrap()
        .managed
        .unwrap();
    assert_eq!(
        (state.map_owner_id, state.maps_used_by),
        (Some(owner), vec![owner, user])
    );
    bench.assert_agreement("shared");
    bench.unload(owner);
    bench.assert_agreement("owner gone");
    bench.unload(user);
    bench.assert_agreement("user gone");

    let mut wanted = request(&["xdp:pass"]);
    wanted.map_owner_id = Some(99);
    let error = bench.loader.load(&mut bench.lock(), wanted).unwrap_err();
    assert!(
        matches!(error, LoaderError::NoSuchMapOwner { id: 99 }),
        "{error}"
    );
}

#[test]
fn records_of_a_former_run_of_the_machine_are_forgotten() {
    let bench = Bench::new();
    let id = bench.load(&["xdp:pass"])[0];
    bench.attach(id, xdp("eth0", 1));
    let note = bench.run_dir().join("boot_id");
    let noted = std::fs::read(&note).unwrap();
    assert!(!bench.records().is_empty());

    // The machine starts anew: its programs are others, with the same ids.
    std::fs::write(&note, "another").unwrap();
    std::fs::write(bench.run_dir().join("journal"), "{\"begin\"").unwrap();
    let kernel = FakeKernel::new();
    kernel.set_object_maps(&["counts", ".rodata", "events"]);
    kernel.add_interface("eth0");
    kernel.add_interface("eth1");
    for _ in 0..20 {
        kernel.load_foreign("foreign", "kprobe");
    }
    let loader = Loader::new(kernel.clone(), Config::new(bench.run_dir()));
    let guard = loader.lock().unwrap();
    let listed = loader.programs(&guard, &ProgramFilter::default()).unwrap();
    assert!(listed.is_empty(), "{listed:?}");
    let theirs = loader.program(&guard, id).unwrap();
    assert_eq!(theirs.kernel.name, "foreign");
    assert!(theirs.managed.is_none(), "{theirs:?}");
    drop(guard);
    let bench = Bench {
        kernel,
        loader,
        ..bench
    };
    assert!(bench.records().is_empty());
    let id = bench.load(&["xdp:pass"])[0];
    bench.attach(id, xdp("eth0", 1));
    assert_eq!(std::fs::read(&note).unwrap(), noted);
    bench.assert_agreement("afresh");
}

#[test]
fn a_request_that_does_not_fit_is_refused_before_the_kernel() {
    let other = if cfg!(target_endian = "big") {
        Endianness::Little
    } else {
        Endianness::Big
    };
    let big = elf(other, &[("xdp", "pass")]);
    let cases: [(LoadRequest, &str, Option<&str>); 7] = [
        (
            request(&["xdp:pas"]),
            "loading prog.o: the object has no program `pas`; it has big_packets, on_kill_with_a_long_name, on_switch, \
             pass, tc_pass, tc_stats, tcx_stats, xdp_stats",
            Some("did you mean `pass`?"),
        ),
        (
            request(&["tracepoint:pass"]),
            "loading `pass` of prog.o as tracepoint: it is in section `xdp`, which is for xdp",
            Some("ask for `xdp:pass`"),
        ),
        (
            request(&["xdp:pass", "xdp:pass"]),
            "loading prog.o: program `pass` was asked for twice",
            None,
        ),
        (
            request(&[]),
            "loading prog.o: no program was asked for",
            None,
        ),
        (
            LoadRequest {
                object: vec![],
                ..request(&["xdp:pass"])
            },
            "reading the object of prog.o",
            Some("compile it again, or fetch it again: the file is not whole"),
        ),
        (
            LoadRequest {
                object: b"not an object".to_vec(),
                ..request(&["xdp:pass"])
            },
            "reading the object of prog.o",
            Some(
                "name an object file that was compiled for eBPF: `clang -target bpf -O2 -g -c prog.c -o prog.o`",
            ),
        ),
        (
            LoadRequest {
                object: big,
                ..request(&["xdp:pass"])
            },
            if cfg!(target_endian = "big") {
                "loading prog.o: the object is little-endian, this host big-endian"
            } else {
                "loading prog.o: the object is big-endian, this host little-endian"
            },
            Some("load the object that was compiled for this host"),
        ),
    ];
    let bench = Bench::new();
    for (wanted, text, hint) in cases {
        let error = bench.loader.load(&mut bench.lock(), wanted).unwrap_err();
        assert_eq!(error.to_string(), text);
        assert_eq!(error.hint().as_deref(), hint, "{text}");
    }
    assert!(!bench.run_dir().exists());
}

#[test]
fn lists_and_their_filters() {
    let bench = Bench::new();
    let mut wanted = request(&["xdp:pass", "tracepoint:on_switch"]);
    wanted.metadata = BTreeMap::from(
        [("owner", "acme"), ("bpfman_application", "app")].map(|(k, v)| (k.into(), v.into())),
    );
    let ours = ids(&bench.loader.load(&mut bench.lock(), wanted).unwrap());
    let plain = bench.load(&["tracepoint:on_switch"])[0];
    let foreign = bench.kernel.load_foreign("sd_devices", "cgroup_device");
    let link = bench.attach(ours[0], xdp("eth0", 1));

    let all = ProgramFilter {
        all: true,
        ..ProgramFilter::default()
    };
    let typed = |kind: &str, all| ProgramFilter {
        kernel_type: Some(kind.to_owned()),
        all,
        ..ProgramFilter::default()
    };
    let with = |key: &str, value: &str, all| ProgramFilter {
        metadata: BTreeMap::from([(key.to_owned(), value.to_owned())]),
        all,
        ..ProgramFilter::default()
    };
    assert_eq!(
        listing(&bench, &ProgramFilter::default()),
        [ours[0], ours[1], plain]
    );
    let dispatcher = bench.kernel.xdp_chain("eth0").unwrap().0;
    assert_eq!(
        listing(&bench, &all),
        [ours[0], ours[1], plain, foreign, dispatcher]
    );
    assert_eq!(listing(&bench, &typed("xdp", false)), [ours[0]]);
    assert_eq!(listing(&bench, &typed("xdp", true)), [ours[0], dispatcher]);
    assert_eq!(listing(&bench, &typed("cgroup_device", true)), [foreign]);
    assert_eq!(listing(&bench, &with("owner", "acme", false)), ours);
    assert_eq!(listing(&bench, &with("owner", "acme", true)), ours);
    assert_eq!(listing(&bench, &with("owner", "other", true)), [0_u32; 0]);

    let summary = &bench.loader.programs(&bench.lock(), &all).unwrap()[0];
    assert_eq!(
        (summary.name.as_str(), summary.kernel_type.as_str()),
        ("pass", "xdp")
    );
    assert_eq!(summary.managed.as_ref().unwrap().links, [link]);

    let foreign = bench.loader.program(&bench.lock(), foreign).unwrap();
    assert!(foreign.managed.is_none());
    assert_eq!(foreign.kernel.program_type, "cgroup_device");
    assert!(matches!(
        bench.loader.program(&bench.lock(), 4711),
        Err(LoaderError::NoSuchProgram { id: 4711 })
    ));
    assert!(matches!(
        bench.loader.unload(&mut bench.lock(), foreign.kernel.id),
        Err(LoaderError::NotOurs { .. })
    ));
}

#[test]
fn a_links_metadata_is_its_programs_and_its_own() {
    let bench = Bench::new();
    let pairs = |pairs: &[(&str, &str)]| {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    };
    let mut wanted = request(&["tracepoint:on_switch"]);
    wanted.metadata = pairs(&[("a", "program"), ("b", "program")]);
    let id = ids(&bench.loader.load(&mut bench.lock(), wanted).unwrap())[0];
    let attach = AttachRequest {
        point: tracepoint("sched/sched_switch"),
        metadata: pairs(&[("b", "link"), ("c", "link")]),
    };
    let link = bench.loader.attach(&mut bench.lock(), id, attach).unwrap();
    let union: BTreeMap<String, String> = pairs(&[("a", "program"), ("b", "link"), ("c", "link")]);
    assert_eq!(link.metadata, union);
    assert_eq!(
        bench.loader.link(&bench.lock(), link.id).unwrap().metadata,
        union
    );
    for (key, value, found) in [
        ("a", "program", 1),
        ("b", "link", 1),
        ("b", "program", 0),
        ("d", "x", 0),
    ] {
        let filter = LinkFilter {
            metadata: pairs(&[(key, value)]),
            ..LinkFilter::default()
        };
        assert_eq!(
            bench.loader.links(&bench.lock(), &filter).unwrap().len(),
            found,
            "{key}={value}"
        );
    }
    for (kind, found) in [("tracepoint", 1), ("xdp", 0)] {
        let filter = LinkFilter {
            kernel_type: Some(kind.to_owned()),
            ..LinkFilter::default()
        };
        assert_eq!(
            bench.loader.links(&bench.lock(), &filter).unwrap().len(),
            found,
            "{kind}"
        );
    }
    assert!(matches!(
        bench.loader.link(&bench.lock(), 1),
        Err(LoaderError::NoSuchLink { id: 1 })
    ));
}

#[test]
fn an_unmounted_bpffs_stops_neither_list_nor_unload() {
    let bench = Bench::new();
    let programs = bench.load(&["xdp:pass", "xdp:xdp_stats", "tracepoint:on_switch"]);
    bench.attach(programs[0], xdp("eth0", 1));
    bench.attach(programs[1], xdp("eth0", 2));
    bench.attach(programs[2], tracepoint("sched/sched_switch"));
    bench.kernel.unmount();
    assert!(listing(&bench, &ProgramFilter::default()).is_empty());
    let error = bench
        .loader
        .program(&bench.lock(), programs[0])
        .unwrap_err();
    assert!(matches!(error, LoaderError::ProgramGone { .. }), "{error}");
    assert!(
        error
            .hint()
            .unwrap()
            .contains(&format!("bpfman unload {}", programs[0]))
    );

    // What is left of the chain is not in the way of a new program.
    let fresh = bench.load(&["xdp:pass"])[0];
    let link = bench.attach(fresh, xdp("eth0", 1));
    assert_eq!(bench.chain("eth0"), [link]);
    for id in programs {
        bench.unload(id);
    }
    bench.assert_agreement("attached");
}

#[test]
fn a_chain_that_some_process_holds_is_not_forgotten() {
    let bench = Bench::new();
    let id = bench.load(&["xdp:pass"])[0];
    bench.attach(id, xdp("eth0", 1));
    let pins = bench.kernel.pins().into_keys();
    let link = pins
        .into_iter()
        .find(|path| path.to_string_lossy().ends_with("_link"));
    let link = link.unwrap();
    let held = bench.kernel.open_pin(&link).unwrap();
    bench.kernel.unpin(&link).unwrap();
    let error = bench.try_attach(id, xdp("eth0", 2)).unwrap_err();
    assert!(matches!(error, LoaderError::ChainHeld { .. }), "{error}");
    drop(held);
    bench.attach(id, xdp("eth0", 2));
    bench.assert_agreement("attached anew");
}
