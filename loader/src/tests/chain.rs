//! XDP chains.

use super::*;

fn proceeding(iface: &str, priority: u32, words: &[&str]) -> AttachPoint {
    AttachPoint::Xdp {
        iface: iface.to_owned(),
        priority,
        proceed_on: Some(ProceedOn(
            words.iter().map(|word| (*word).to_owned()).collect(),
        )),
        mode: None,
        netns: None,
    }
}

fn in_mode(iface: &str, mode: XdpMode) -> AttachPoint {
    AttachPoint::Xdp {
        iface: iface.to_owned(),
        priority: 50,
        proceed_on: None,
        mode: Some(mode),
        netns: None,
    }
}

#[test]
fn ten_work_in_order_and_the_eleventh_is_refused() {
    let bench = Bench::new();
    let id = bench.load(&["xdp:pass"])[0];
    let mut expected = Vec::new();
    for priority in [500, 1, 1000, 500, 20, 20, 3, 999, 500, 1] {
        expected.push((priority, bench.attach(id, xdp("eth0", priority))));
        bench.assert_agreement("growing");
    }
    expected.sort_by_key(|(priority, _)| *priority);
    let links: Vec<u32> = expected.iter().map(|(_, link)| *link).collect();
    assert_eq!(bench.chain("eth0"), links);
    let config = bench.kernel.xdp_config("eth0").unwrap();
    assert_eq!(config.num_progs_enabled, 10);
    assert_eq!(
        config.run_prios,
        [1, 1, 3, 20, 20, 500, 500, 500, 999, 1000]
    );
    assert_eq!(config.chain_call_actions, [0x8000_0004; 10]);

    let before = bench.kernel.snapshot();
    let error = bench.try_attach(id, xdp("eth0", 2)).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("attaching program {id} to eth0: its chain has 10 programs, the most there can be")
    );
    assert!(error.hint().is_some());
    assert_eq!(bench.kernel.snapshot(), before);
    // Another interface is another chain.
    bench.attach(id, xdp("eth1", 2));

    for link in links {
        bench.detach(link);
        bench.assert_agreement("shrinking");
    }
    assert_eq!(bench.kernel.xdp_chain("eth0"), None);
}

#[test]
fn each_member_keeps_its_mask_when_the_chain_moves() {
    let bench = Bench::new();
    let programs = bench.load(&["xdp:pass", "xdp:xdp_stats"]);
    bench.attach(programs[0], proceeding("eth0", 10, &["drop"]));
    let middle = bench.attach(programs[1], proceeding("eth0", 20, &["tx", "aborted"]));
    bench.attach(programs[0], proceeding("eth0", 30, &["redirect"]));
    let masks =
        |bench: &Bench| bench.kernel.xdp_config("eth0").unwrap().chain_call_actions[..3].to_vec();
    assert_eq!(masks(&bench), [0x2, 0x9, 0x10]);
    bench.attach(programs[1], proceeding("eth0", 1, &["pass"]));
    assert_eq!(masks(&bench), [0x4, 0x2, 0x9]);
    bench.detach(middle);
    assert_eq!(masks(&bench), [0x4, 0x2, 0x10]);
    let (_, running) = bench.kernel.xdp_chain("eth0").unwrap();
    assert_eq!(running, [programs[1], programs[0], programs[0]]);
}

#[test]
fn frags_only_when_all_have_it() {
    let bench = Bench::new();
    bench.kernel.set_frags(&["big_packets"]);
    let programs = bench.load(&["xdp:big_packets", "xdp:pass"]);
    bench.attach(programs[0], xdp("eth0", 1));
    assert!(bench.kernel.xdp_config("eth0").unwrap().is_xdp_frags);
    let small = bench.attach(programs[1], xdp("eth0", 2));
    assert!(!bench.kernel.xdp_config("eth0").unwrap().is_xdp_frags);
    bench.detach(small);
    assert!(bench.kernel.xdp_config("eth0").unwrap().is_xdp_frags);
}

/// A member that stands in for the whole dispatcher, and one that does not.
#[test]
fn an_only_member_is_the_chain_where_that_makes_no_difference() {
    let bench = Bench::new();
    bench.kernel.set_result("pass", 2);
    bench.kernel.set_result("xdp_stats", 1);
    let programs = bench.load(&["xdp:pass", "xdp:xdp_stats", "xdp:big_packets"]);
    let functions = |bench: &Bench| bench.kernel.xdp_functions("eth0").unwrap();
    let (pass, drop, unknown) = (programs[0], programs[1], programs[2]);
    let cases: [(u32, &[&str], &str); 8] = [
        (pass, &["pass", "dispatcher_return"], "xdp_dispatcher"),
        (pass, &["drop"], "xdp_dispatcher"),
        (drop, &["pass", "dispatcher_return"], "xdp_dispatcher"),
        // The end of the chain makes PASS of its DROP.
        (drop, &["drop"], "prog0"),
        (drop, &["pass", "drop"], "prog0"),
        // What it returns is not known, but what the chain goes on after comes out as it came in.
        (unknown, &["pass"], "xdp_dispatcher"),
        (unknown, &["pass", "dispatcher_return"], "prog0"),
        (unknown, &["aborted"], "prog0"),
    ];
    for (id, words, expected) in cases {
        let link = bench.attach(id, proceeding("eth0", 50, words));
        assert_eq!(functions(&bench), [expected], "{id} {words:?}");
        bench.assert_agreement(expected);
        bench.detach(link);
    }

    // It comes into a slot beside a second, and out of it when it is alone again.
    bench.attach(pass, xdp("eth0", 50));
    let second = bench.attach(drop, xdp("eth0", 20));
    assert_eq!(functions(&bench), ["prog0", "prog1"]);
    assert_eq!(bench.kernel.xdp_chain("eth0").unwrap().1, [drop, pass]);
    bench.detach(second);
    assert_eq!(functions(&bench), ["xdp_dispatcher"]);
    assert_eq!(bench.kernel.xdp_chain("eth0").unwrap().1, [pass]);
    bench.assert_agreement("alone again");
}

#[test]
fn what_is_asked_wrongly_is_refused_before_anything_is_done() {
    let bench = Bench::new();
    let programs = bench.load(&["xdp:pass", "tracepoint:on_switch"]);
    let foreign = bench.kernel.attach_foreign_xdp("eth1").unwrap();
    let before = (bench.kernel.snapshot(), bench.records());
    let cases: [(u32, AttachPoint, &str); 8] = [
        (
            programs[0],
            xdp("eth0", 0),
            "priority 0 is outside 1 to 1000",
        ),
        (
            programs[0],
            xdp("eth0", 1001),
            "priority 1001 is outside 1 to 1000",
        ),
        (
            programs[0],
            proceeding("eth0", 1, &["shot"]),
            "`shot` is no XDP action",
        ),
        (programs[0], xdp("eth7", 1), "attaching program"),
        (
            programs[0],
            tracepoint("sched/sched_switch"),
            "to tracepoint: it was loaded as xdp",
        ),
        (
            programs[1],
            xdp("eth0", 1),
            "to xdp: it was loaded as tracepoint",
        ),
        (
            programs[1],
            tracepoint("sched_switch"),
            "`sched_switch` is no tracepoint",
        ),
        (
            programs[0],
            within("/run/netns/x", xdp("eth0", 1)),
            "to eth0 in /run/netns/x",
        ),
    ];
    for (id, point, expected) in cases {
        let error = bench.try_attach(id, point).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(
            (bench.kernel.snapshot(), bench.records()),
            before,
            "{expected}"
        );
    }
    for (name, hint) in [
        ("eth7", "did you mean `eth0`?"),
        ("wlan", "`ip link` lists"),
    ] {
        let error = bench.try_attach(programs[0], xdp(name, 1)).unwrap_err();
        assert!(error.hint().unwrap().contains(hint), "{name}: {error}");
    }
    let error = bench.try_attach(programs[0], xdp("eth1", 1)).unwrap_err();
    assert!(
        matches!(error, LoaderError::ForeignXdp { foreign: id, .. } if id == foreign),
        "{error}"
    );
    assert!(
        error
            .hint()
            .unwrap()
            .contains("ip link set dev eth1 xdpdrv off")
    );
    assert_eq!((bench.kernel.snapshot(), bench.records()), before);
    assert!(matches!(
        bench.try_attach(foreign, xdp("eth0", 1)),
        Err(LoaderError::NotOurs { .. })
    ));
    assert!(matches!(
        bench.try_attach(4711, xdp("eth0", 1)),
        Err(LoaderError::NoSuchProgram { id: 4711 })
    ));
}

#[test]
fn modes() {
    let drv = || in_mode("eth0", XdpMode::Driver);
    // Asked for and refused: nothing else is tried.
    let bench = Bench::new();
    bench.kernel.refuse_modes(&[XdpMode::Driver]);
    let id = bench.load(&["xdp:pass"])[0];
    let before = bench.kernel.snapshot();
    let error = bench.try_attach(id, drv()).unwrap_err();
    assert!(
        matches!(error, LoaderError::ModeRefused { mode: "drv", .. }),
        "{error}"
    );
    assert_eq!(bench.kernel.snapshot(), before);
    // Not asked for: generic instead.
    bench.attach(id, xdp("eth0", 1));
    bench.assert_agreement("generic");
    // The chain has its mode now.
    let error = bench.try_attach(id, drv()).unwrap_err();
    assert!(
        matches!(
            error,
            LoaderError::ModeDiffers {
                asked: "drv",
                found: "skb",
                ..
            }
        ),
        "{error}"
    );
    bench.attach(id, in_mode("eth0", XdpMode::Skb));
    bench.unload(id);

    // A driver that takes it: the chain is known to be in its mode, and may be asked for by name.
    bench.kernel.refuse_modes(&[]);
    let id = bench.load(&["xdp:pass"])[0];
    bench.attach(id, xdp("eth0", 1));
    bench.attach(id, drv());
    let error = bench
        .try_attach(id, in_mode("eth0", XdpMode::Skb))
        .unwrap_err();
    assert!(
        matches!(
            error,
            LoaderError::ModeDiffers {
                asked: "skb",
                found: "drv",
                ..
            }
        ),
        "{error}"
    );
    bench.assert_agreement("native");

    // The configuration asks.
    let bench = Bench::with(|config| {
        config.xdp_modes.insert("eth0".to_owned(), XdpMode::Driver);
    });
    bench.kernel.refuse_modes(&[XdpMode::Driver]);
    let id = bench.load(&["xdp:pass"])[0];
    assert!(matches!(
        bench.try_attach(id, xdp("eth0", 1)),
        Err(LoaderError::ModeRefused { .. })
    ));
    bench.attach(id, xdp("eth1", 1));
}

#[test]
fn without_ext_programs_one_runs_alone() {
    let bench = Bench::new();
    bench.kernel.refuse_extensions(true);
    let programs = bench.load(&["xdp:pass", "xdp:xdp_stats"]);
    assert_eq!(bench.kernel.programs()[&programs[0]], "xdp");
    let link = bench.attach(programs[0], xdp("eth0", 50));
    bench.assert_agreement("alone");
    assert_eq!(bench.kernel.xdp_chain("eth0"), Some((programs[0], vec![])));
    assert_eq!(bench.chain("eth0"), [link]);
    let error = bench.try_attach(programs[1], xdp("eth0", 60)).unwrap_err();
    assert!(
        matches!(error, LoaderError::NoChain { holder, .. } if holder == programs[0]),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("EXT programs"));
    // A program of before the lockdown cannot join either.
    bench.kernel.refuse_extensions(false);
    let extension = bench.load(&["xdp:pass"])[0];
    assert!(matches!(
        bench.try_attach(extension, xdp("eth0", 1)),
        Err(LoaderError::NoChain { .. })
    ));
    bench.attach(extension, xdp("eth1", 1));
    assert!(matches!(
        bench.try_attach(programs[0], xdp("eth1", 1)),
        Err(LoaderError::NoChain { .. })
    ));
    bench.unload(programs[0]);
    bench.assert_agreement("unloaded");
    assert_eq!(bench.kernel.xdp_chain("eth0"), None);
}

#[test]
fn an_interface_that_is_gone_stops_no_detach() {
    let bench = Bench::new();
    let programs = bench.load(&["xdp:pass", "xdp:xdp_stats"]);
    let first = bench.attach(programs[0], xdp("eth0", 1));
    bench.attach(programs[1], xdp("eth0", 2));
    bench.kernel.remove_interface("eth0");
    bench.detach(first);
    bench.unload(programs[1]);
    bench.unload(programs[0]);
    bench.assert_agreement("all gone");
}

#[test]
fn program_that_cannot_be_a_member_runs_alone() {
    let bench = Bench::new();
    bench.kernel.refuse_as_members(&["pass"]);
    let programs = bench.load(&["xdp:pass", "xdp:xdp_stats"]);
    let (alone, member) = (programs[0], programs[1]);
    assert_eq!(bench.kernel.programs()[&alone], "xdp");
    assert_eq!(bench.kernel.programs()[&member], "ext");
    bench.assert_agreement("loaded");

    // Alone on its hook; nothing joins it.
    let link = bench.attach(alone, xdp("eth0", 50));
    assert_eq!(bench.kernel.xdp_chain("eth0"), Some((alone, vec![])));
    let refused = |id: u32, iface: &str, holder: u32| {
        let error = bench.try_attach(id, xdp(iface, 60)).unwrap_err();
        assert!(
            matches!(error, LoaderError::NoChain { holder: found, alone: found_alone, .. }
                if found == holder && found_alone == alone),
            "{error}"
        );
        let text = error.to_string();
        assert!(text.contains(&format!("program {alone} was loaded without a dispatcher")));
        assert!(!text.contains("compat_test"), "{text}");
    };
    refused(member, "eth0", alone);
    refused(alone, "eth0", alone);
    // It does not join a chain either.
    bench.attach(member, xdp("eth1", 50));
    refused(alone, "eth1", member);
    bench.detach(link);
    bench.attach(member, xdp("eth0", 50));
    bench.unload(alone);
    bench.unload(member);
    bench.assert_agreement("unloaded");
}
