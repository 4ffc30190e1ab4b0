//! TCX links, in an order of ours among those of others.

use TcDirection::{Egress, Ingress};

use super::*;

/// Link ids of ours on a hook, by position.
fn ours(bench: &Bench, wanted: TcDirection) -> Vec<u32> {
    // Those of others have positions, too.
    let places = bench.places(|attachment| match attachment {
        Attachment::Tcx {
            direction,
            position,
            ..
        } if *direction == wanted => Some(*position),
        _ => None,
    });
    places.into_values().collect()
}

fn load(bench: &Bench, count: usize) -> Vec<u32> {
    (0..count)
        .map(|_| bench.load(&["tcx:tcx_stats"])[0])
        .collect()
}

#[test]
fn ours_stand_by_priority_and_those_of_others_stay_where_they_are() {
    let bench = Bench::new();
    let first = bench.kernel.attach_foreign_tcx("eth0", Ingress).unwrap();
    let programs = load(&bench, 5);
    let mut links = vec![bench.attach(programs[0], tcx("eth0", Ingress, 50))];
    let second = bench.kernel.attach_foreign_tcx("eth0", Ingress).unwrap();
    for (program, priority) in [(1, 10), (2, 50), (3, 1000), (4, 50)] {
        links.push(bench.attach(programs[program], tcx("eth0", Ingress, priority)));
        bench.assert_agreement("attached");
    }
    let order = [1, 0, 2, 4, 3];
    assert_eq!(ours(&bench, Ingress), order.map(|at| links[at]));
    // The second foreigner came behind the first of ours. Each newcomer stands next to one of ours.
    let running = bench.kernel.tcx_chain("eth0", Ingress);
    let [a, b, c, d, e] = order.map(|at| programs[at]);
    assert_eq!(running, [first, a, b, c, d, e, second]);
    assert_eq!(ours(&bench, Egress), Vec::<u32>::new());

    bench.detach(links[0]);
    bench.assert_agreement("detached");
    assert_eq!(
        bench.kernel.tcx_chain("eth0", Ingress),
        [first, a, c, d, e, second]
    );
    for id in programs {
        bench.unload(id);
    }
    assert_eq!(bench.kernel.tcx_chain("eth0", Ingress), [first, second]);
    assert!(bench.records().is_empty());
}

#[test]
fn the_same_program_twice_on_one_hook_is_refused_by_name() {
    let bench = Bench::new();
    let id = load(&bench, 1)[0];
    let link = bench.attach(id, tcx("eth0", Ingress, 5));
    let before = (bench.kernel.snapshot(), bench.records());
    let error = bench.try_attach(id, tcx("eth0", Ingress, 9)).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "attaching program {id} (`tcx_stats`) to eth0 ingress: it is attached there already, by link {link}"
        )
    );
    assert!(error.hint().is_some());
    assert_eq!((bench.kernel.snapshot(), bench.records()), before);
    // Other hooks are other hooks.
    bench.attach(id, tcx("eth0", Egress, 9));
    bench.attach(id, tcx("eth1", Ingress, 9));
    bench.assert_agreement("three hooks");
}

#[test]
fn tc_and_tcx_are_not_the_same() {
    let bench = Bench::new();
    let programs = bench.load(&["tc:tc_pass", "tcx:tcx_stats"]);
    for (id, point) in [
        (programs[0], tcx("eth0", Ingress, 1)),
        (programs[1], tc("eth0", Ingress, 1)),
    ] {
        let error = bench.try_attach(id, point).unwrap_err();
        assert!(matches!(error, LoaderError::WrongHook { .. }), "{error}");
    }
    for priority in [0, 1001] {
        let error = bench
            .try_attach(programs[1], tcx("eth0", Egress, priority))
            .unwrap_err();
        assert!(
            error.to_string().contains("to eth0 egress: priority"),
            "{error}"
        );
    }
}

#[test]
fn an_interface_that_is_gone_stops_neither_detach_nor_unload() {
    let bench = Bench::new();
    let programs = load(&bench, 2);
    let link = bench.attach(programs[0], tcx("eth0", Ingress, 1));
    bench.attach(programs[1], tcx("eth0", Ingress, 2));
    bench.kernel.remove_interface("eth0");
    bench.detach(link);
    bench.unload(programs[1]);
    bench.unload(programs[0]);
    assert!(bench.records().is_empty());
    bench.assert_agreement("all gone");
}

#[test]
fn links_that_lost_their_pins_are_in_nobodys_way() {
    let bench = Bench::new();
    let ids = bench.load(&["tcx:tcx_stats", "tcx:tc_pass"]);
    let lost = bench.attach(ids[0], tcx("eth0", Ingress, 5));
    bench
        .kernel
        .unpin(&bench.fs(&format!("links/{lost}")))
        .unwrap();
    bench.attach(ids[1], tcx("eth0", Ingress, 6));
    bench.attach(ids[0], tcx("eth0", Ingress, 5));
    assert_eq!(bench.kernel.tcx_chain("eth0", Ingress), [ids[0], ids[1]]);
    bench.assert_agreement("attached");
}
