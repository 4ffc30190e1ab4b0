//! Interfaces that are renamed, swapped, moved to another namespace or deleted, and numbers that are given out again.

use TcDirection::Ingress;

use super::*;
use crate::FindingKind;

const BLUE: &str = "/run/netns/blue";
const BLUE_ID: u64 = 4_026_532_000;

/// A hook of each kind, on an interface.
fn hooks(iface: &str) -> [(&'static str, AttachPoint); 3] {
    [
        ("xdp:pass", xdp(iface, 50)),
        ("tc:tc_pass", tc(iface, Ingress, 50)),
        ("tcx:tcx_stats", tcx(iface, Ingress, 50)),
    ]
}

/// The hook of a program on an interface.
fn hook(word: &str, iface: &str) -> AttachPoint {
    let mut hooks = hooks(iface).into_iter();
    hooks.find(|(kind, _)| *kind == word).unwrap().1
}

/// A program attached to `eth0`, on a kernel with the namespace `blue`.
fn attached(word: &str, point: &AttachPoint) -> (Bench, u32, u32) {
    let bench = Bench::new();
    bench.kernel.add_namespace(BLUE, BLUE_ID, "lo", 1);
    let program = bench.load(&[word])[0];
    let link = bench.attach(program, point.clone());
    (bench, program, link)
}

/// Name and namespace that a link is shown with, and its index.
fn shown(bench: &Bench, link: u32) -> (String, Option<PathBuf>, u32) {
    let link = bench.loader.link(&bench.lock(), link).unwrap();
    let (Attachment::Xdp { iface, netns, .. }
    | Attachment::Tc { iface, netns, .. }
    | Attachment::Tcx { iface, netns, .. }) = link.attachment
    else {
        panic!("{link:?}");
    };
    (iface, netns, link.interface.unwrap().ifindex)
}

fn is_gone(bench: &Bench, link: u32) -> bool {
    bench.loader.link(&bench.lock(), link).unwrap().gone
}

fn kinds(bench: &Bench) -> Vec<FindingKind> {
    let found = bench.loader.doctor().unwrap();
    found.iter().map(|found| found.finding.kind).collect()
}

/// What is there can be taken away, and then nothing is left.
fn ends(bench: &Bench, programs: &[u32], context: &str) {
    for id in programs {
        bench.unload(*id);
    }
    assert!(bench.records().is_empty(), "{context}");
    bench.assert_agreement(context);
}

#[test]
fn renamed_interface_is_shown_by_its_new_name() {
    for (word, point) in hooks("eth0") {
        let (bench, program, link) = attached(word, &point);
        let index = bench.kernel.index("eth0");
        bench.kernel.rename_interface("eth0", "wan0");
        assert_eq!(shown(&bench, link), ("wan0".to_owned(), None, index));
        let whole = bench.loader.link(&bench.lock(), link).unwrap();
        assert_eq!(whole.interface.unwrap().recorded_name, "eth0");
        bench.assert_agreement(word);
        // By the new name it is the same chain.
        let other = bench.load(&[word])[0];
        bench.attach(other, hook(word, "wan0"));
        bench.assert_agreement(word);
        bench.detach(link);
        ends(&bench, &[program, other], word);
    }
}

#[test]
fn swapped_names_do_not_mix_chains() {
    for (word, point) in hooks("eth0") {
        let (bench, program, link) = attached(word, &point);
        let index = bench.kernel.index("eth0");
        for (from, to) in [("eth0", "tmp"), ("eth1", "eth0"), ("tmp", "eth1")] {
            bench.kernel.rename_interface(from, to);
        }
        assert_eq!(shown(&bench, link), ("eth1".to_owned(), None, index));
        let other = bench.load(&[word])[0];
        let second = bench.attach(other, point);
        assert_eq!(
            shown(&bench, second),
            ("eth0".to_owned(), None, bench.kernel.index("eth0"))
        );
        bench.assert_agreement(word);
        ends(&bench, &[program, other], word);
    }
}

#[test]
fn moved_interface_keeps_its_xdp_and_tcx_links() {
    for (word, point) in hooks("eth0") {
        for index in [7, 70] {
            let (bench, program, link) = attached(word, &point);
            let old = bench.kernel.index("eth0");
            let index = if index == 7 { old } else { index };
            bench
                .kernel
                .move_interface((None, "eth0"), Some(BLUE), index);
            let other = bench.load(&[word])[0];
            if word.starts_with("tc:") {
                // The kernel drops qdiscs and their filters.
                assert!(is_gone(&bench, link), "{word}");
                assert_eq!(kinds(&bench), [FindingKind::ChainStopped]);
                let _ = bench.loader.repair().unwrap();
                bench.assert_agreement(word);
                bench.attach(other, within(BLUE, tc("eth0", Ingress, 60)));
            } else {
                assert!(!is_gone(&bench, link), "{word}");
                let place = ("eth0".to_owned(), Some(BLUE.into()), index);
                assert_eq!(shown(&bench, link), place, "{word}");
                bench.assert_agreement(word);
                // Our own program there is recognised as ours: another one joins it.
                let point = within(BLUE, hook(word, "eth0"));
                let second = bench.attach(other, point);
                assert_eq!(shown(&bench, second), place, "{word}");
                assert_eq!(shown(&bench, link), place, "{word}");
                bench.assert_agreement(word);
                bench.detach(second);
                bench.assert_agreement(word);
                assert!(!is_gone(&bench, link), "{word}");
            }
            ends(&bench, &[program, other], word);
        }
    }
}

#[test]
fn moved_and_back_is_as_before() {
    for (word, point) in hooks("eth0") {
        let (bench, program, link) = attached(word, &point);
        let index = bench.kernel.index("eth0");
        bench
            .kernel
            .move_interface((None, "eth0"), Some(BLUE), index);
        bench
            .kernel
            .move_interface((Some(BLUE), "eth0"), None, index);
        assert_eq!(shown(&bench, link), ("eth0".to_owned(), None, index));
        assert_eq!(is_gone(&bench, link), word.starts_with("tc:"), "{word}");
        if word.starts_with("tc:") {
            // It is the same interface, by number and name: the filter is put on again.
            assert_eq!(kinds(&bench), [FindingKind::ChainDetached]);
            let _ = bench.loader.repair().unwrap();
        }
        bench.assert_agreement(word);
        assert!(!is_gone(&bench, link), "{word}");
        ends(&bench, &[program], word);
    }
}

#[test]
fn number_of_a_moved_interface_is_free_for_another() {
    let (bench, program, link) = attached("xdp:pass", &xdp("eth0", 50));
    let index = bench.kernel.index("eth0");
    bench
        .kernel
        .move_interface((None, "eth0"), Some(BLUE), index);
    bench.kernel.add_interface_at("new0", index);
    let other = bench.load(&["xdp:pass"])[0];
    let second = bench.attach(other, xdp("new0", 50));
    assert_eq!(
        shown(&bench, link),
        ("eth0".to_owned(), Some(BLUE.into()), index)
    );
    assert_eq!(shown(&bench, second), ("new0".to_owned(), None, index));
    bench.assert_agreement("two with one number");
    // Each is found by the interface that it is on.
    let third = bench.load(&["xdp:pass"])[0];
    let there = bench.attach(third, within(BLUE, xdp("eth0", 60)));
    bench.attach(third, xdp("new0", 60));
    assert_eq!(
        shown(&bench, there),
        ("eth0".to_owned(), Some(BLUE.into()), index)
    );
    bench.assert_agreement("joined");
    ends(&bench, &[program, other, third], "two with one number");
}

#[test]
fn interfaces_that_swap_namespaces_keep_their_chains() {
    let (bench, program, link) = attached("xdp:pass", &xdp("eth0", 50));
    let index = bench.kernel.index("eth0");
    bench.kernel.add_namespace(BLUE, BLUE_ID, "blue0", index);
    let other = bench.load(&["xdp:pass"])[0];
    let second = bench.attach(other, within(BLUE, xdp("blue0", 50)));
    bench
        .kernel
        .move_interface((None, "eth0"), Some(BLUE), 9000);
    bench
        .kernel
        .move_interface((Some(BLUE), "blue0"), None, index);
    bench
        .kernel
        .move_interface((Some(BLUE), "eth0"), Some(BLUE), index);
    let third = bench.load(&["xdp:pass"])[0];
    bench.attach(third, xdp("blue0", 60));
    bench.attach(third, within(BLUE, xdp("eth0", 60)));
    assert_eq!(
        shown(&bench, link),
        ("eth0".to_owned(), Some(BLUE.into()), index)
    );
    assert_eq!(shown(&bench, second), ("blue0".to_owned(), None, index));
    bench.assert_agreement("swapped");
    ends(&bench, &[program, other, third], "swapped");
}

#[test]
fn interface_that_takes_the_number_of_a_deleted_one_brings_its_chain() {
    let bench = Bench::new();
    bench.kernel.add_namespace(BLUE, BLUE_ID, "blue0", 500);
    let programs: Vec<u32> = (0..3).map(|_| bench.load(&["xdp:pass"])[0]).collect();
    let link = bench.attach(programs[0], within(BLUE, xdp("blue0", 50)));
    bench.attach(programs[1], xdp("eth1", 50));
    let index = bench.kernel.index("eth1");
    bench.kernel.remove_interface("eth1");
    bench
        .kernel
        .move_interface((Some(BLUE), "blue0"), None, index);
    bench.attach(programs[2], xdp("blue0", 60));
    assert_eq!(shown(&bench, link), ("blue0".to_owned(), None, index));
    bench.assert_agreement("taken over");
    ends(&bench, &programs, "taken over");
}

#[test]
fn interface_in_a_hidden_namespace_still_runs() {
    for (word, point) in [hooks("eth0")[0].clone(), hooks("eth0")[2].clone()] {
        let (bench, program, link) = attached(word, &point);
        bench.kernel.move_interface((None, "eth0"), Some(BLUE), 77);
        bench.kernel.hide_namespace(BLUE, "/somewhere");
        let found = bench.loader.link(&bench.lock(), link).unwrap();
        assert!(!found.gone, "{word}");
        let interface = found.interface.unwrap();
        assert_eq!((interface.ifindex, interface.nsid), (77, None), "{word}");
        bench.assert_agreement(word);
        ends(&bench, &[program], word);
    }
}

#[test]
fn interface_that_is_gone_is_forgotten_by_repair() {
    for (word, point) in hooks("eth0") {
        let (bench, program, link) = attached(word, &point);
        bench.kernel.remove_interface("eth0");
        assert!(is_gone(&bench, link), "{word}");
        let kind = match word {
            "tcx:tcx_stats" => FindingKind::LinkStopped,
            _ => FindingKind::ChainStopped,
        };
        assert_eq!(kinds(&bench), [kind], "{word}");
        let _ = bench.loader.repair().unwrap();
        bench.assert_agreement(word);
        ends(&bench, &[program], word);
    }
}

#[test]
fn number_of_a_deleted_interface_does_not_pass_its_chain_on() {
    for (word, point) in hooks("eth0") {
        for same_name in [false, true] {
            let name = if same_name { "eth0" } else { "new0" };
            let (bench, program, link) = attached(word, &point);
            let index = bench.kernel.index("eth0");
            bench.kernel.remove_interface("eth0");
            bench.kernel.add_interface_at(name, index);
            assert!(is_gone(&bench, link), "{word}");
            // The name is the one of before, not of the interface that has the number now.
            assert_eq!(shown(&bench, link).0, "eth0", "{word}");
            let kind = match word {
                "tcx:tcx_stats" => FindingKind::LinkStopped,
                _ if same_name => FindingKind::ChainDetached,
                _ => FindingKind::ChainStopped,
            };
            assert_eq!(kinds(&bench), [kind], "{word} {name}");
            let _ = bench.loader.repair().unwrap();
            bench.assert_agreement(word);
            if !same_name {
                let state = bench.kernel.interface_state(&crate::kernel::Device {
                    ifindex: index,
                    nsid: crate::kernel::fake::NSID,
                    netns: None,
                });
                assert_eq!(state.unwrap().xdp, [], "{word}");
            }
            let other = bench.load(&[word])[0];
            bench.attach(other, hook(word, name));
            bench.assert_agreement(word);
            ends(&bench, &[program, other], word);
        }
    }
}

#[test]
fn alternative_names_lead_to_the_interface() {
    let long = "uplink-to-the-core-switch";
    let bench = Bench::new();
    bench.kernel.add_alternative_name("eth0", long);
    let index = bench.kernel.index("eth0");
    for (word, point) in hooks(long) {
        let program = bench.load(&[word])[0];
        let link = bench.attach(program, point);
        assert_eq!(shown(&bench, link), ("eth0".to_owned(), None, index));
        bench.assert_agreement(word);
    }
}

#[test]
fn tcx_position_counts_the_links_of_others() {
    let bench = Bench::new();
    bench.kernel.attach_foreign_tcx("eth0", Ingress).unwrap();
    let program = bench.load(&["tcx:tcx_stats"])[0];
    let link = bench.try_attach(program, tcx("eth0", Ingress, 50)).unwrap();
    let position = |link: &Link| match link.attachment {
        Attachment::Tcx { position, .. } => position,
        _ => u32::MAX,
    };
    assert_eq!(position(&link), 1);
    let listed = bench.loader.link(&bench.lock(), link.id).unwrap();
    assert_eq!(position(&listed), 1);
}

#[test]
fn tcx_link_above_the_limit_names_it() {
    let bench = Bench::new();
    for _ in 0..60 {
        bench.kernel.attach_foreign_tcx("eth0", Ingress).unwrap();
    }
    let programs: Vec<u32> = (0..4).map(|_| bench.load(&["tcx:tcx_stats"])[0]).collect();
    for program in &programs[..3] {
        bench.attach(*program, tcx("eth0", Ingress, 50));
    }
    let before = (bench.kernel.snapshot(), bench.records());
    let error = bench
        .try_attach(programs[3], tcx("eth0", Ingress, 50))
        .unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(
        cause.contains("63") && cause.contains("BPF_MPROG_MAX"),
        "{cause}"
    );
    assert!(error.hint().unwrap().contains("detach"));
    assert_eq!((bench.kernel.snapshot(), bench.records()), before);
}

#[test]
fn xdp_mode_is_the_one_that_the_kernel_uses() {
    let bench = Bench::new();
    bench.kernel.refuse_modes(&[XdpMode::Driver]);
    let program = bench.load(&["xdp:pass"])[0];
    let link = bench.try_attach(program, xdp("eth0", 50)).unwrap();
    assert_eq!(link.interface.unwrap().mode, Some(XdpMode::Skb));
    let listed = bench.loader.link(&bench.lock(), link.id).unwrap();
    assert_eq!(listed.interface.unwrap().mode, Some(XdpMode::Skb));
}

#[test]
fn metadata_above_its_cap_loads_and_attaches_nothing() {
    let bench = Bench::new();
    let mut long = request(&["xdp:pass"]);
    long.metadata.insert(
        "k".to_owned(),
        "v".repeat(crate::metadata::MAX_VALUE_BYTES + 1),
    );
    let before = bench.kernel.snapshot();
    let error = bench.loader.load(&mut bench.lock(), long.clone());
    assert!(matches!(error, Err(LoaderError::Metadata(_))), "{error:?}");
    assert_eq!(bench.kernel.snapshot(), before);
    let program = bench.load(&["xdp:pass"])[0];
    let asked = AttachRequest {
        point: xdp("eth0", 1),
        metadata: long.metadata,
    };
    let error = bench.loader.attach(&mut bench.lock(), program, asked);
    assert!(matches!(error, Err(LoaderError::Metadata(_))), "{error:?}");
}

#[test]
fn interrupted_attach_to_a_moved_chain_leaves_it_running() {
    for dies in [false, true] {
        for n in 1.. {
            let context = format!("call {n}, dies: {dies}");
            let (bench, program, link) = attached("xdp:pass", &xdp("eth0", 50));
            let other = bench.load(&["xdp:pass"])[0];
            bench.kernel.move_interface((None, "eth0"), Some(BLUE), 77);
            let mut guard = bench.lock();
            if dies {
                bench.kernel.crash_at(n);
            } else {
                bench.kernel.fail_at(n);
            }
            let request = AttachRequest {
                point: within(BLUE, xdp("eth0", 60)),
                metadata: BTreeMap::new(),
            };
            let _ = kill::run(|| bench.loader.attach(&mut guard, other, request));
            let armed = bench.kernel.is_armed();
            bench.kernel.fail_at(0);
            bench.kernel.crash_at(0);
            drop(guard);
            bench.assert_agreement(&context);
            let chain = bench.kernel.xdp_chain_at(77).unwrap().1;
            assert!(chain.contains(&program), "{context}: {chain:?}");
            assert_eq!(shown(&bench, link).2, 77, "{context}");
            ends(&bench, &[program, other], &context);
            if armed {
                break;
            }
        }
    }
}
