//! Network namespaces, which come and go.

use TcDirection::{Egress, Ingress};

use super::*;

const BLUE: &str = "/run/netns/blue";
const BLUE_ID: u64 = 4_026_532_000;

fn bench() -> (Bench, Vec<u32>) {
    let bench = Bench::new();
    // The index of eth0 in our namespace, which is another interface.
    bench.kernel.add_namespace(BLUE, BLUE_ID, "eth0", 7001);
    let programs = bench.load(&["xdp:pass", "tc:tc_pass", "tcx:tcx_stats", "xdp:xdp_stats"]);
    (bench, programs)
}

fn points() -> [AttachPoint; 4] {
    [
        within(BLUE, xdp("eth0", 1)),
        within(BLUE, tc("eth0", Ingress, 1)),
        within(BLUE, tcx("eth0", Egress, 1)),
        within(BLUE, xdp("eth0", 2)),
    ]
}

#[test]
fn each_namespace_has_its_own_chains() {
    let (bench, programs) = bench();
    let mut links = Vec::new();
    for (id, point) in programs.iter().zip(points()) {
        let link = bench.try_attach(*id, point).unwrap();
        let netns = match &link.attachment {
            Attachment::Xdp { netns, .. }
            | Attachment::Tc { netns, .. }
            | Attachment::Tcx { netns, .. } => netns.clone(),
            _ => None,
        };
        assert_eq!(netns, Some(BLUE.into()));
        links.push(link.id);
        bench.assert_agreement("attached");
    }
    assert_eq!(bench.kernel.xdp_chain("eth0"), None);
    assert_eq!(
        bench.kernel.xdp_chain_at(7001).unwrap().1,
        [programs[0], programs[3]]
    );
    assert!(bench.kernel.tc_chain(BLUE_ID, 7001, Ingress).is_some());
    bench.attach(programs[0], xdp("eth0", 5));
    bench.assert_agreement("ours, too");
    for link in links {
        bench.detach(link);
        bench.assert_agreement("detached");
    }
    assert_eq!(bench.kernel.xdp_chain("eth0").unwrap().1, [programs[0]]);
}

#[test]
fn a_namespace_that_is_gone_stops_neither_list_nor_detach_nor_unload() {
    let (bench, programs) = bench();
    let mut links = Vec::new();
    for (id, point) in programs.iter().zip(points()) {
        links.push(bench.attach(*id, point));
    }
    let here = bench.load(&["xdp:pass"])[0];
    let here = bench.attach(here, xdp("eth0", 1));
    let gone = |bench: &Bench| {
        let links = bench
            .loader
            .links(&bench.lock(), &LinkFilter::default())
            .unwrap();
        let gone = links.iter().map(|link| (link.id, link.gone));
        gone.collect::<BTreeMap<u32, bool>>()
    };
    let all = |all: bool| {
        let there = links.iter().map(|link| (*link, all));
        let mut links: BTreeMap<u32, bool> = there.collect();
        links.insert(here, false);
        links
    };
    assert_eq!(gone(&bench), all(false));
    bench.kernel.remove_namespace(BLUE);
    assert_eq!(gone(&bench), all(true));
    // Nothing can be attached there, and that is said of the path.
    let error = bench
        .try_attach(programs[0], points()[0].clone())
        .unwrap_err();
    assert!(
        error.to_string().ends_with("to eth0 in /run/netns/blue"),
        "{error}"
    );
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains(BLUE), "{cause}");
    assert!(error.hint().is_some());

    bench.detach(links[0]);
    bench.detach(links[1]);
    for id in programs {
        bench.unload(id);
    }
    bench.assert_agreement("gone");
    assert_eq!(gone(&bench), BTreeMap::from([(here, false)]));
}

#[test]
fn a_chain_is_found_by_the_path_that_leads_to_it_now() {
    let (bench, programs) = bench();
    let elsewhere = "/proc/7/root/mnt/blue";
    let first = bench.attach(programs[1], within(BLUE, tc("eth0", Ingress, 1)));
    bench.kernel.hide_namespace(BLUE, elsewhere);
    let second = bench.attach(programs[1], within(elsewhere, tc("eth0", Ingress, 2)));
    let chain = |bench: &Bench| bench.kernel.tc_chain(BLUE_ID, 7001, Ingress).unwrap().1;
    assert_eq!(chain(&bench), [programs[1]; 2]);
    bench.assert_agreement("joined");
    // The new path is known from then on.
    bench.detach(first);
    assert_eq!(chain(&bench), [programs[1]]);
    bench.detach(second);
    assert_eq!(bench.kernel.tc_chain(BLUE_ID, 7001, Ingress), None);
    bench.assert_agreement("gone");
}

#[test]
fn another_namespace_with_the_numbers_of_one_that_is_gone_starts_afresh() {
    let (bench, programs) = bench();
    for (id, point) in programs.iter().zip(points()) {
        bench.attach(*id, point);
    }
    bench.kernel.remove_namespace(BLUE);
    bench.kernel.add_namespace(BLUE, BLUE_ID, "eth0", 7001);
    let fresh = bench.load(&["xdp:pass", "tc:tc_pass", "tcx:tcx_stats"]);
    let mut links: Vec<u32> = Vec::new();
    for (id, point) in fresh.iter().zip(points()) {
        links.push(bench.attach(*id, point));
    }
    bench.assert_agreement("afresh");
    let shown = bench
        .loader
        .links(&bench.lock(), &LinkFilter::default())
        .unwrap();
    let shown: BTreeSet<u32> = shown.iter().map(|link| link.id).collect();
    assert_eq!(shown, links.into_iter().collect());
    assert_eq!(bench.kernel.xdp_chain_at(7001).unwrap().1, [fresh[0]]);
    for id in programs.into_iter().chain(fresh) {
        bench.unload(id);
    }
    assert!(bench.records().is_empty());
    bench.assert_agreement("gone");
}
