//! TC chains: what they have that XDP chains have not.

use TcDirection::{Egress, Ingress};

use super::*;
use crate::FindingKind;
use crate::kernel::fake::NSID;

fn proceeding(priority: u32, words: &[&str]) -> AttachPoint {
    AttachPoint::Tc {
        iface: "eth0".to_owned(),
        direction: Ingress,
        priority,
        proceed_on: Some(ProceedOn(
            words.iter().map(|word| (*word).to_owned()).collect(),
        )),
        netns: None,
    }
}

/// Link ids of a TC chain, by position.
fn chain(bench: &Bench, wanted: TcDirection) -> Vec<u32> {
    bench.order(|attachment| match attachment {
        Attachment::Tc {
            direction,
            position,
            ..
        } if *direction == wanted => Some(*position),
        _ => None,
    })
}

fn qdiscs(bench: &Bench) -> Vec<String> {
    let lines = bench.kernel.snapshot().into_iter();
    lines
        .filter(|line| line.starts_with("qdisc ") || line.starts_with("filter "))
        .collect()
}

/// As for XDP; PIPE is what differs.
#[test]
fn an_only_member_is_the_chain_where_that_makes_no_difference() {
    let bench = Bench::new();
    let default: &[&str] = &["ok", "pipe", "dispatcher_return"];
    let cases: [(i32, &[&str], &str); 6] = [
        (0, default, "tc_dispatcher"),
        (2, default, "tc_dispatcher"),
        (-1, default, "tc_dispatcher"),
        (-1, &["unspec"], "prog0"),
        // The end of the chain makes OK of it.
        (3, default, "prog0"),
        (3, &["ok"], "tc_dispatcher"),
    ];
    for (result, words, expected) in cases {
        bench.kernel.set_result("tc_pass", result);
        let id = bench.load(&["tc:tc_pass"])[0];
        let link = bench.attach(id, proceeding(50, words));
        let functions = bench.kernel.tc_functions("eth0", Ingress).unwrap();
        assert_eq!(functions, [expected], "{result} {words:?}");
        bench.assert_agreement(expected);
        bench.detach(link);
    }
}

#[test]
fn ten_work_in_order_on_each_direction_and_the_eleventh_is_refused() {
    let bench = Bench::new();
    let id = bench.load(&["tc:tc_pass"])[0];
    let mut expected = Vec::new();
    for priority in [500, 1, 1000, 500, 20, 20, 3, 999, 500, 1] {
        expected.push((priority, bench.attach(id, tc("eth0", Ingress, priority))));
        bench.assert_agreement("growing");
    }
    expected.sort_by_key(|(priority, _)| *priority);
    let links: Vec<u32> = expected.iter().map(|(_, link)| *link).collect();
    assert_eq!(chain(&bench, Ingress), links);
    let config = bench.kernel.tc_config("eth0", Ingress).unwrap();
    assert_eq!(config.num_progs_enabled, 10);
    assert_eq!(
        config.run_prios,
        [1, 1, 3, 20, 20, 500, 500, 500, 999, 1000]
    );
    assert_eq!(config.chain_call_actions, [0x8000_0012; 10]);

    let before = bench.kernel.snapshot();
    let error = bench.try_attach(id, tc("eth0", Ingress, 2)).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "attaching program {id} to eth0 ingress: its chain has 10 programs, the most there can be"
        )
    );
    assert_eq!(bench.kernel.snapshot(), before);
    // The other direction is another chain, on the same clsact.
    bench.attach(id, tc("eth0", Egress, 2));
    bench.assert_agreement("both directions");
    for link in links {
        bench.detach(link);
        bench.assert_agreement("shrinking");
    }
    assert_eq!(qdiscs(&bench).len(), 2, "{:?}", qdiscs(&bench));
    bench.unload(id);
    assert_eq!(qdiscs(&bench), Vec::<String>::new());
}

#[test]
fn each_member_keeps_its_mask_when_the_chain_moves() {
    let bench = Bench::new();
    let programs = bench.load(&["tc:tc_pass", "tc:tc_stats"]);
    bench.attach(programs[0], proceeding(10, &["shot"]));
    let middle = bench.attach(programs[1], proceeding(20, &["unspec", "trap"]));
    bench.attach(programs[0], proceeding(30, &["redirect"]));
    let masks = |bench: &Bench| {
        let config = bench.kernel.tc_config("eth0", Ingress).unwrap();
        config.chain_call_actions[..3].to_vec()
    };
    assert_eq!(masks(&bench), [0x8, 0x201, 0x100]);
    bench.detach(middle);
    assert_eq!(masks(&bench), [0x8, 0x100, 0]);
    let error = bench
        .try_attach(programs[0], proceeding(1, &["pass"]))
        .unwrap_err();
    assert!(
        error.to_string().starts_with("`pass` is no TC action"),
        "{error}"
    );
    let link = &bench
        .loader
        .links(&bench.lock(), &LinkFilter::default())
        .unwrap()[0];
    let Attachment::Tc { proceed_on, .. } = &link.attachment else {
        unreachable!("{link:?}")
    };
    assert_eq!(proceed_on, &["shot"]);
}

#[test]
fn clsact_goes_with_us_only_when_it_came_with_us_and_nobody_else_uses_it() {
    let foreign = |kernel: &FakeKernel, preference| {
        kernel.add_foreign_filter("eth0", Egress, preference, "bpf");
    };
    // It was there.
    let bench = Bench::new();
    bench.kernel.set_qdisc("eth0", Some("clsact"));
    let before = qdiscs(&bench);
    let id = bench.load(&["tc:tc_pass"])[0];
    let link = bench.attach(id, tc("eth0", Ingress, 1));
    bench.detach(link);
    assert_eq!(qdiscs(&bench), before);
    bench.assert_agreement("foreign clsact");

    // It is ours, and somebody put a filter on it since; at our preference, too.
    for preference in [1, 50] {
        let bench = Bench::new();
        let id = bench.load(&["tc:tc_pass"])[0];
        let link = bench.attach(id, tc("eth0", Ingress, 1));
        foreign(&bench.kernel, preference);
        let link_two = bench.attach(id, tc("eth0", Egress, 1));
        bench.detach(link);
        bench.detach(link_two);
        bench.assert_agreement("filter of others");
        let left = qdiscs(&bench);
        assert_eq!(left.len(), 2, "{left:?}");
        assert!(left[0].starts_with("filter 0 of "), "{left:?}");
        assert!(left[1].starts_with("qdisc clsact"), "{left:?}");
    }

    // It is ours and nobody's else: the end of both directions at once is the end of it.
    let bench = Bench::new();
    let id = bench.load(&["tc:tc_pass"])[0];
    bench.attach(id, tc("eth0", Ingress, 1));
    bench.attach(id, tc("eth0", Egress, 1));
    bench.unload(id);
    assert_eq!(qdiscs(&bench), Vec::<String>::new());
    bench.assert_agreement("unloaded");
}

#[test]
fn what_is_in_the_way_is_named() {
    let bench = Bench::new();
    let id = bench.load(&["tc:tc_pass"])[0];
    bench.kernel.set_qdisc("eth0", Some("ingress"));
    bench.kernel.set_qdisc("eth1", Some("clsact"));
    bench
        .kernel
        .add_foreign_filter("eth1", Ingress, 50, "flower");
    let before = (bench.kernel.snapshot(), bench.records());
    let error = bench.try_attach(id, tc("eth0", Egress, 1)).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "attaching program {id} to eth0 egress: the interface has the qdisc `ingress` where clsact would be"
        )
    );
    assert!(
        error
            .hint()
            .unwrap()
            .contains("tc qdisc del dev eth0 ingress")
    );
    assert_eq!((bench.kernel.snapshot(), bench.records()), before);

    let error = bench.try_attach(id, tc("eth1", Ingress, 1)).unwrap_err();
    assert!(
        matches!(&error, LoaderError::ForeignFilter { kind, preference: 50, .. } if kind == "flower"),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("dev eth1 ingress pref 50"));
    assert_eq!((bench.kernel.snapshot(), bench.records()), before);
    // The other direction is free.
    bench.attach(id, tc("eth1", Egress, 1));
    bench.assert_agreement("egress");
}

#[test]
fn without_ext_programs_one_runs_alone() {
    let bench = Bench::new();
    bench.kernel.refuse_extensions(true);
    let programs = bench.load(&["tc:tc_pass", "tc:tc_stats"]);
    assert_eq!(bench.kernel.programs()[&programs[0]], "tc");
    let link = bench.attach(programs[0], tc("eth0", Ingress, 50));
    bench.assert_agreement("alone");
    assert_eq!(chain(&bench, Ingress), [link]);
    let error = bench
        .try_attach(programs[1], tc("eth0", Ingress, 60))
        .unwrap_err();
    assert!(
        matches!(error, LoaderError::NoChain { holder, .. } if holder == programs[0]),
        "{error}"
    );
    assert!(error.to_string().contains("to eth0 ingress: "), "{error}");
    // Each direction has its one.
    bench.attach(programs[1], tc("eth0", Egress, 60));
    bench.assert_agreement("one each");
    bench.unload(programs[0]);
    bench.unload(programs[1]);
    bench.assert_agreement("unloaded");
    assert_eq!(qdiscs(&bench), Vec::<String>::new());
}

#[test]
fn members_are_extensions_and_other_types_of_the_same_load_are_not() {
    let bench = Bench::new();
    let programs = bench.load(&[
        "tc:tc_pass",
        "tcx:tcx_stats",
        "xdp:pass",
        "tracepoint:on_switch",
    ]);
    let kinds = bench.kernel.programs();
    let kinds: Vec<&str> = programs.iter().map(|id| kinds[id]).collect();
    assert_eq!(kinds, ["ext", "tc", "ext", "tracepoint"]);
}

#[test]
fn an_interface_or_a_filter_that_is_gone_stops_neither_detach_nor_unload() {
    let gone: [fn(&Bench); 2] = [
        |bench| bench.kernel.remove_interface("eth0"),
        |bench| bench.kernel.set_qdisc("eth0", None),
    ];
    for take_away in gone {
        let bench = Bench::new();
        let programs = bench.load(&["tc:tc_pass", "tc:tc_stats"]);
        let first = bench.attach(programs[0], tc("eth0", Ingress, 1));
        bench.attach(programs[1], tc("eth0", Ingress, 2));
        bench.attach(programs[1], tc("eth0", Egress, 2));
        take_away(&bench);
        assert_eq!(
            bench
                .loader
                .links(&bench.lock(), &LinkFilter::default())
                .unwrap()
                .len(),
            3
        );
        bench.detach(first);
        bench.unload(programs[1]);
        bench.unload(programs[0]);
        bench.assert_agreement("all gone");
        assert!(bench.records().is_empty());
        assert_eq!(qdiscs(&bench), Vec::<String>::new());
    }
}

#[test]
fn a_chain_that_stopped_is_taken_away_without_a_new_revision() {
    let gone: [fn(&Bench); 2] = [
        |bench| bench.kernel.remove_interface("eth0"),
        |bench| bench.kernel.set_qdisc("eth0", None),
    ];
    for take_away in gone {
        let bench = Bench::new();
        let programs = bench.load(&["tc:tc_pass", "tc:tc_stats"]);
        let links = [
            bench.attach(programs[0], tc("eth0", Ingress, 1)),
            bench.attach(programs[1], tc("eth0", Ingress, 2)),
            bench.attach(programs[1], tc("eth0", Ingress, 3)),
        ];
        take_away(&bench);
        // Not even a program that is lost is in the way.
        bench.lose_program(programs[1]);
        bench.detach(links[0]);
        let folder = bench.fs("tc-ingress");
        let pins = bench.kernel.pins();
        assert!(!pins.keys().any(|pin| pin.starts_with(&folder)), "{pins:?}");
        bench.detach(links[1]);
        bench.unload(programs[1]);
        bench.unload(programs[0]);
        bench.assert_agreement("all gone");
        assert!(bench.records().is_empty());
    }
}

#[test]
fn what_is_left_of_a_chain_that_stopped_is_forgotten_by_the_next_attach() {
    let bench = Bench::new();
    let programs = bench.load(&["tc:tc_pass", "tc:tc_stats"]);
    let first = bench.attach(programs[0], tc("eth0", Ingress, 1));
    bench.attach(programs[1], tc("eth0", Ingress, 2));
    bench.kernel.set_qdisc("eth0", None);
    bench.detach(first);
    let left = bench.loader.doctor().unwrap();
    let left: Vec<_> = left.iter().map(|left| left.finding.kind).collect();
    assert_eq!(left, [FindingKind::LinkWithoutChain]);
    let fresh = bench.attach(programs[0], tc("eth0", Ingress, 5));
    assert_eq!(chain(&bench, Ingress), [fresh]);
    bench.assert_agreement("anew");
}

#[test]
fn a_lost_program_does_not_keep_the_others_of_its_chain() {
    let bench = Bench::new();
    let mut programs = bench.load(&["tc:tc_pass", "tc:tc_stats"]);
    programs.extend(bench.load(&["tc:tc_pass"]));
    let links: Vec<u32> = (1..)
        .zip(&programs)
        .map(|(priority, id)| bench.attach(*id, tc("eth0", Ingress, priority)))
        .collect();
    bench.lose_program(programs[1]);
    let before = bench.records();
    assert!(matches!(
        bench.try_attach(programs[0], tc("eth0", Ingress, 9)),
        Err(LoaderError::ProgramGone { id, .. }) if id == programs[1]
    ));
    assert_eq!(bench.records(), before);
    bench.detach(links[0]);
    let eth0 = bench.kernel.index("eth0");
    let running = |bench: &Bench| bench.kernel.tc_chain(NSID, eth0, Ingress);
    assert_eq!(running(&bench).unwrap().1, [programs[2]]);
    // The last one that is there: the chain ends.
    bench.detach(links[2]);
    assert_eq!(running(&bench), None);
    bench.unload(programs[1]);
    bench.assert_agreement("unloaded");
    bench.unload(programs[0]);
    bench.unload(programs[2]);
    assert!(bench.records().is_empty());
    assert_eq!(qdiscs(&bench), Vec::<String>::new());
}

#[test]
fn a_clsact_that_was_put_in_the_place_of_ours_stays() {
    let bench = Bench::new();
    let id = bench.load(&["tc:tc_pass"])[0];
    let link = bench.attach(id, tc("eth0", Ingress, 1));
    bench.kernel.set_qdisc("eth0", None);
    bench.kernel.set_qdisc("eth0", Some("clsact"));
    let theirs = qdiscs(&bench);
    bench.detach(link);
    assert_eq!(qdiscs(&bench), theirs);
    bench.assert_agreement("theirs");
}

#[test]
fn a_chain_that_was_taken_away_is_forgotten_by_the_next_attach() {
    let bench = Bench::new();
    let programs = bench.load(&["tc:tc_pass", "tc:tc_stats"]);
    bench.attach(programs[0], tc("eth0", Ingress, 1));
    let egress = bench.attach(programs[0], tc("eth0", Egress, 1));
    bench.kernel.set_qdisc("eth0", None);
    let fresh = bench.attach(programs[1], tc("eth0", Ingress, 5));
    assert_eq!(chain(&bench, Ingress), [fresh]);
    bench.detach(egress);
    bench.assert_agreement("anew");
    bench.unload(programs[1]);
    bench.unload(programs[0]);
    assert!(bench.records().is_empty());
    assert_eq!(qdiscs(&bench), Vec::<String>::new());
}

#[test]
fn an_unmounted_bpffs_stops_no_unload() {
    let bench = Bench::new();
    let programs = bench.load(&["tc:tc_pass", "tc:tc_stats"]);
    bench.attach(programs[0], tc("eth0", Ingress, 1));
    bench.attach(programs[1], tc("eth0", Ingress, 2));
    bench.kernel.unmount();
    let fresh = bench.load(&["tc:tc_pass"])[0];
    // What is left of the chain goes without being asked for.
    let link = bench.attach(fresh, tc("eth0", Ingress, 1));
    assert_eq!(chain(&bench, Ingress), [link]);
    for id in programs {
        bench.unload(id);
    }
    bench.assert_agreement("attached");
    bench.detach(link);
    assert_eq!(qdiscs(&bench), Vec::<String>::new());
}
