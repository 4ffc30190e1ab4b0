//! Every table and every JSON shape against `tests/golden/tables/`, made of the guide's newest samples.
//! `BPFMAN_UPDATE_GOLDEN=1` writes the files anew.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use bytecode_image::digest::{Digest, VerifiedBytes};
use bytecode_image::labels::Labels;
use bytecode_image::manifest::{Document, parse};
use bytecode_image::pull::{BytecodeImage, Verdict};
use bytecode_image::store::{Admission, Entry, Freed, Held, State, StoredImage, StoredPlatform};
use bytecode_image::verify::{
    Algorithm, Candidate, Covered, Format, LogEntry, NotCounted, Place, Proof, SignatureManifest,
    Signer, TimeSource, TrustedTime,
};
use bytecode_object::ProgramType;
use jiff::Timestamp;
use loader::{
    Attachment, Diagnosis, Finding, FindingKind, KernelState, Link, LoaderError, ManagedState,
    ManagedSummary, Outcome, Program, ProgramSummary, Remedy, Source, TcDirection, UprobePoint,
};

use super::doctor::DiagnosisJson;
use super::images::Shown;
use super::images_json::StoredImageJson;
use super::json::{self, ImageJson, LinkJson, ProgramJson, ProgramSummaryJson};
use super::proof::{self, Proven, ProvenJson};
use super::{doctor, images, links, programs};

fn golden(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/tables")
        .join(name);
    // The zone of the machine must not decide.
    let text = text.replace(&time_of(LOADED_AT), "2025-07-22T08:22:05+0000");
    if std::env::var_os("BPFMAN_UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(
        text,
        std::fs::read_to_string(&path).unwrap(),
        "{name} differs"
    );
}

/// 2025-07-22T08:22:05Z.
const LOADED_AT: u64 = 1_753_172_525;

fn time_of(seconds: u64) -> String {
    super::time::local(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap()
}

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn application(name: &str) -> BTreeMap<String, String> {
    pairs(&[("bpfman_application", name)])
}

fn kernel(id: u32, name: &str, kernel_type: &str) -> KernelState {
    KernelState {
        id,
        name: name.to_owned(),
        program_type: kernel_type.to_owned(),
        loaded_at: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(LOADED_AT)),
        tag: [0x0b, 0x9d, 0x1b, 0x2c, 0x14, 0x0e, 0x87, 0xce],
        gpl_compatible: true,
        map_ids: vec![60],
        btf_id: 188,
        size_translated: 96,
        size_jitted: 79,
        memory: 4096,
        verified_instructions: 9,
    }
}

fn managed(id: u32, function: &str, program_type: ProgramType, source: Source) -> ManagedState {
    ManagedState {
        function: function.to_owned(),
        program_type,
        attach_function: None,
        source,
        globals: BTreeMap::new(),
        metadata: BTreeMap::new(),
        map_pin_path: format!("/run/bpfman/fs/maps/{id}").into(),
        map_owner_id: None,
        maps_used_by: vec![id],
        links: Vec::new(),
    }
}

fn image_source() -> Source {
    Source::Image {
        url: "quay.io/bpfman-bytecode/xdp_pass:latest".to_owned(),
        digest: format!("sha256:{}", "ab".repeat(32)),
        pull_policy: "IfNotPresent".to_owned(),
    }
}

fn xdp_link(id: u32, iface: &str) -> Link {
    Link {
        id,
        program_id: 184,
        function: "pass".to_owned(),
        program_type: ProgramType::Xdp,
        attachment: Attachment::Xdp {
            iface: iface.to_owned(),
            priority: 100,
            position: 0,
            proceed_on: vec!["pass".to_owned(), "dispatcher_return".to_owned()],
            netns: None,
        },
        metadata: application("XdpPassProgram"),
        gone: false,
    }
}

/// The guide's "Attach TC" with the default of its help text.
fn tc_link() -> Link {
    Link {
        id: 4_210_414_695,
        program_id: 98,
        function: "pass".to_owned(),
        program_type: ProgramType::Tc,
        attachment: Attachment::Tc {
            iface: "enp1s0".to_owned(),
            direction: TcDirection::Ingress,
            priority: 40,
            position: 0,
            proceed_on: ["ok", "pipe", "dispatcher_return"]
                .map(str::to_owned)
                .into(),
            netns: None,
        },
        metadata: application("TcGlobal"),
        gone: false,
    }
}

fn tcx_link() -> Link {
    Link {
        id: 3_926_782_293,
        program_id: 63_672,
        function: "tcx_stats".to_owned(),
        program_type: ProgramType::Tcx,
        attachment: Attachment::Tcx {
            iface: "eno3".to_owned(),
            direction: TcDirection::Egress,
            priority: 22,
            position: 1,
            netns: Some("/var/run/netns/bpfman-test".into()),
        },
        metadata: application("go-app"),
        gone: false,
    }
}

fn tracepoint_link() -> Link {
    Link {
        id: 1_462_192_047,
        program_id: 225,
        function: "tracepoint_kill_recorder".to_owned(),
        program_type: ProgramType::Tracepoint,
        attachment: Attachment::Tracepoint {
            tracepoint: "syscalls/sys_enter_openat".to_owned(),
        },
        metadata: pairs(&[]),
        gone: false,
    }
}

/// The guide's list of links, with what else may be there.
fn probe_links() -> Vec<Link> {
    let link = |id, program_id, function: &str, program_type, attachment| Link {
        id,
        program_id,
        function: function.to_owned(),
        program_type,
        attachment,
        metadata: pairs(&[]),
        gone: false,
    };
    let kprobe = |function: &str, offset, retprobe| Attachment::Kprobe {
        function: function.to_owned(),
        offset,
        retprobe,
    };
    let uprobe = |point, retprobe| Attachment::Uprobe {
        point,
        path: "/usr/lib/x86_64-linux-gnu/libc.so.6".into(),
        retprobe,
    };
    let malloc = UprobePoint {
        target: "libc".to_owned(),
        function: Some("malloc".to_owned()),
        offset: 0,
        pid: None,
        container_pid: None,
    };
    let inside = UprobePoint {
        offset: 16,
        pid: Some(4711),
        container_pid: Some(4700),
        ..malloc.clone()
    };
    let offset = UprobePoint {
        target: "/usr/lib/x86_64-linux-gnu/libc.so.6".to_owned(),
        function: None,
        offset: 0x9_d2e0,
        ..malloc.clone()
    };
    let fentry = Attachment::Fentry {
        function: "do_unlinkat".to_owned(),
    };
    let fexit = Attachment::Fexit {
        function: "do_unlinkat".to_owned(),
    };
    use ProgramType::{Fentry, Fexit, Kprobe, Uprobe};
    vec![
        link(294_437_142, 63_682, "test_fentry", Fentry, fentry),
        link(
            2_131_925_936,
            63_690,
            "my_kprobe",
            Kprobe,
            kprobe("try_to_wake_up", 0, false),
        ),
        link(
            2_131_925_937,
            63_690,
            "my_kprobe",
            Kprobe,
            kprobe("try_to_wake_up", 16, false),
        ),
        link(
            1_834_679_786,
            63_698,
            "my_kretprobe",
            Kprobe,
            kprobe("try_to_wake_up", 0, true),
        ),
        link(2_055_942_218, 63_744, "test_fexit", Fexit, fexit),
        link(
            800_266_964,
            63_809,
            "uretprobe_counter",
            Uprobe,
            uprobe(malloc, true),
        ),
        link(
            800_266_965,
            63_810,
            "uprobe_counter",
            Uprobe,
            uprobe(inside, false),
        ),
        link(
            800_266_966,
            63_810,
            "uprobe_counter",
            Uprobe,
            uprobe(offset, false),
        ),
    ]
}

/// The guide's "Loading From Remote Repository".
fn xdp_pass() -> Program {
    let mut program = Program {
        managed: Some(managed(184, "pass", ProgramType::Xdp, image_source())),
        kernel: kernel(184, "pass", "xdp"),
    };
    program.managed.as_mut().unwrap().metadata = application("XdpPassProgram");
    program
}

/// The guide's "Setting Global Variables", with what else may be there.
fn tc_global() -> Program {
    let path = "tests/integration-test/bpf/.output/tc_pass.bpf/bpf_x86_bpfel.o".to_owned();
    let mut state = managed(98, "pass", ProgramType::Tc, Source::File { path });
    state.globals = BTreeMap::from([
        ("GLOBAL_u8".to_owned(), vec![1]),
        ("GLOBAL_u32".to_owned(), vec![0x0a, 0x0b, 0x0c, 0x0d]),
    ]);
    state.metadata = pairs(&[("owner", "acme"), ("bpfman_application", "TcGlobal")]);
    state.map_owner_id = Some(90);
    state.map_pin_path = "/run/bpfman/fs/maps/90".into();
    state.maps_used_by = vec![90, 98];
    Program {
        managed: Some(state),
        kernel: kernel(98, "pass", "tc"),
    }
}

fn attached() -> Program {
    let mut program = xdp_pass();
    program.managed.as_mut().unwrap().links = vec![
        xdp_link(1_301_256_968, "eno4"),
        xdp_link(18_827_142, "eno3"),
    ];
    program
}

/// A program of somebody else that the kernel says little of.
fn foreign() -> Program {
    let mut kernel = kernel(63_643, "sd_fw_ingress", "cgroup_skb");
    kernel.map_ids = Vec::new();
    kernel.btf_id = 0;
    kernel.loaded_at = None;
    kernel.size_jitted = 0;
    kernel.verified_instructions = 0;
    Program {
        managed: None,
        kernel,
    }
}

/// The guide's "Loading Multiple Programs".
fn go_app() -> Vec<Program> {
    [
        (224, "kprobe_counter", ProgramType::Kprobe),
        (225, "tracepoint_kill_recorder", ProgramType::Tracepoint),
        (226, "stats", ProgramType::Tc),
        (227, "tcx_stats", ProgramType::Tcx),
        (228, "uprobe_counter", ProgramType::Uprobe),
        (229, "xdp_stats", ProgramType::Xdp),
    ]
    .map(|(id, function, kind)| {
        let mut state = managed(id, function, kind, image_source());
        state.metadata = application("go-app");
        let name = &function[..function.len().min(15)];
        Program {
            managed: Some(state),
            kernel: kernel(id, name, kind.kernel_type()),
        }
    })
    .into()
}

fn summaries() -> Vec<ProgramSummary> {
    let foreign = |id, name: &str, kernel_type: &str| ProgramSummary {
        id,
        name: name.to_owned(),
        kernel_type: kernel_type.to_owned(),
        managed: None,
    };
    let ours =
        |id, name: &str, program_type: ProgramType, metadata, links: &[u32]| ProgramSummary {
            id,
            name: name.to_owned(),
            kernel_type: program_type.kernel_type().to_owned(),
            managed: Some(ManagedSummary {
                function: name.to_owned(),
                program_type,
                metadata,
                links: links.to_vec(),
            }),
        };
    vec![
        foreign(63_638, "sd_devices", "cgroup_device"),
        ours(
            63_661,
            "pass",
            ProgramType::Xdp,
            application("XdpPassProgram"),
            &[1_301_256_968, 18_827_142],
        ),
        ours(
            63_669,
            "kprobe_counter",
            ProgramType::Kprobe,
            application("go-app"),
            &[],
        ),
        ours(
            63_682,
            "test_fentry",
            ProgramType::Fentry,
            pairs(&[]),
            &[294_437_142],
        ),
    ]
}

fn pulled() -> BytecodeImage {
    BytecodeImage {
        reference: "quay.io/bpfman-bytecode/xdp_pass:latest".parse().unwrap(),
        digest: Digest::of(b"index"),
        manifest_digest: Digest::of(b"manifest"),
        platform: "linux/amd64".parse().unwrap(),
        labels: Labels {
            programs: pairs(&[("pass", "xdp")]),
            maps: pairs(&[]),
        },
        object: vec![0; 1234],
        object_name: "bpf_x86_bpfel.o".to_owned(),
        from_store: false,
        verdict: Verdict::NotCovered,
    }
}

fn entry(name: Option<&str>, digest: Digest) -> Entry {
    Entry {
        name: name.map(str::to_owned),
        reference: name.map(|name| name.parse().unwrap()),
        media_type: "application/vnd.oci.image.index.v1+json".to_owned(),
        digest,
        size: 500,
        platform: None,
    }
}

fn stored_platform(platform: &str, state: State) -> StoredPlatform {
    StoredPlatform {
        platform: Some(platform.parse().unwrap()),
        manifest: Digest::of(platform.as_bytes()),
        manifest_size: 400,
        state,
    }
}

/// What a store has of an image with these programs.
fn held(programs: &[(&str, &str)]) -> State {
    let descriptor = |kind: &str, size: u64| {
        let digest = Digest::of(kind.as_bytes());
        format!(
            r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"{digest}","size":{size}}}"#
        )
    };
    let text = format!(
        r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#,
        descriptor("config.v1+json", 300),
        descriptor("layer.v1.tar+gzip", 20_000)
    );
    let Ok((Document::Image(manifest), _)) = parse(&VerifiedBytes::hash(text.clone()), None) else {
        panic!("{text}")
    };
    State::Whole(Box::new(Held {
        config: manifest.config,
        layer: manifest.layer,
        config_labels: pairs(&[("io.ebpf.maps", "…"), ("vendor", "acme")]),
        labels: Labels {
            programs: pairs(programs),
            maps: pairs(&[("stats", "per_cpu_array")]),
        },
    }))
}

fn stored() -> Vec<StoredImage> {
    let many = [
        ("kprobe_counter", "kprobe"),
        ("stats", "tc"),
        ("tcx_stats", "tcx"),
        ("tracepoint_kill_recorder", "tracepoint"),
        ("uprobe_counter", "uprobe"),
        ("xdp_stats", "xdp"),
    ];
    vec![
        StoredImage {
            entry: entry(
                Some("quay.io/bpfman-bytecode/xdp_pass:latest"),
                Digest::of(b"index"),
            ),
            platforms: vec![
                stored_platform("linux/amd64", held(&[("pass", "xdp")])),
                stored_platform("linux/arm64", State::Absent),
                stored_platform("linux/s390x", held(&[("pass", "xdp")])),
            ],
            about: vec![entry(None, Digest::of(b"signature"))],
        },
        StoredImage {
            entry: entry(
                Some("quay.io/bpfman-bytecode/go-app-counter:latest"),
                Digest::of(b"go"),
            ),
            platforms: vec![stored_platform("linux/amd64", held(&many))],
            about: Vec::new(),
        },
        StoredImage {
            entry: entry(Some("docker.io/library/busybox:latest"), Digest::of(b"b")),
            platforms: vec![stored_platform(
                "linux/amd64",
                State::Unusable("it has 2 layers: a bytecode image has one".to_owned()),
            )],
            about: Vec::new(),
        },
        StoredImage {
            entry: entry(None, Digest::of(b"nobody's")),
            platforms: vec![stored_platform("linux/arm64", State::Absent)],
            about: Vec::new(),
        },
    ]
}

/// What a workflow signed, and what a key did.
fn proofs() -> [Proof; 2] {
    let at = Timestamp::from_second(LOADED_AT.try_into().unwrap()).unwrap();
    let place = |format| Place {
        manifest: Digest::of(b"signature"),
        layer: 1,
        format,
    };
    [
        Proof {
            signer: Signer::Identity {
                issuer: "https://token.actions.githubusercontent.com".to_owned(),
                subject: "https://github.com/acme/app/.github/workflows/release.yml@refs/tags/v1"
                    .to_owned(),
            },
            covered: Covered::Index(Digest::of(b"index")),
            place: place(Format::Bundle),
            times: [TimeSource::Authority, TimeSource::Log]
                .map(|source| TrustedTime { at, source })
                .into(),
            log: Some(LogEntry {
                index: 6_324_898,
                log: "https://rekor.sigstore.dev".to_owned(),
            }),
            not_counted: Vec::new(),
        },
        Proof {
            signer: Signer::Key {
                fingerprint: Digest::of(b"key"),
                algorithm: Algorithm::EcdsaP256,
            },
            covered: Covered::Manifest(Digest::of(b"manifest")),
            place: place(Format::SimpleSigning),
            times: Vec::new(),
            log: None,
            not_counted: vec![NotCounted::UnknownAuthority],
        },
    ]
}

#[test]
fn what_was_proven() {
    let image = pulled();
    let [identity, key] = &proofs();
    for (name, proof, built_in) in [
        ("image-verify-identity", identity, Some("2026-10-23")),
        ("image-verify-key", key, None),
    ] {
        let proven = Proven {
            image: &image,
            proof,
            trust_root: (built_in, Digest::of(b"root")),
        };
        golden(&format!("{name}.txt"), &proof::details(&proven));
        let json = json::render(&ProvenJson::from(&proven)).unwrap();
        golden(&format!("{name}.json"), &json);
    }
}

/// The signatures of a fixture.
fn candidates(fixture: &str) -> Vec<Candidate> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fixtures/signatures")
        .join(fixture)
        .join("blobs/sha256");
    let blob = |name: &str| VerifiedBytes::hash(std::fs::read(folder.join(name)).unwrap());
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
        .iter()
        .filter_map(|name| SignatureManifest::parse(&blob(name)).ok())
        .flat_map(|manifest| manifest.candidates(|digest| Some(blob(&digest.hex()))))
        .collect()
}

#[test]
fn images_of_the_store() {
    let stored = stored();
    let [identity, key] = proofs();
    let admission = |proof: &Proof| {
        Some(Admission {
            policy: Digest::of(b"policy"),
            proof: proof.clone(),
            at: Timestamp::from_second(LOADED_AT.try_into().unwrap()).unwrap(),
        })
    };
    let mut shown: Vec<Shown<'_>> = stored
        .iter()
        .map(|image| Shown {
            image,
            admissions: Vec::new(),
            signatures: Vec::new(),
        })
        .collect();
    shown[0].admissions = vec![admission(&key), None, None];
    shown[0].signatures = candidates("kl2");
    shown[0].signatures.extend(candidates("v3"));
    shown[1].admissions = vec![admission(&identity)];
    golden("image-list.txt", &images::list(&shown));
    golden("image-list-empty.txt", &images::list(&[]));
    golden("image-inspect.txt", &images::details(&shown[0]));
    golden("image-inspect-unusable.txt", &images::details(&shown[2]));
    let json: Vec<_> = shown.iter().map(StoredImageJson::from).collect();
    golden("image-list.json", &json::render(&json).unwrap());
    let freed = Freed {
        entries: vec![stored[0].entry.clone(), stored[0].about[0].clone()],
        files: 9,
        bytes: 41_234,
    };
    golden("image-remove.txt", &images::freed(&freed));
}

#[test]
fn tables() {
    golden("load-file.txt", &programs::details(&tc_global()));
    golden("load-image.txt", &programs::details(&xdp_pass()));
    golden("load-several.txt", &programs::loaded(&go_app()));
    golden("get-program.txt", &programs::details(&attached()));
    golden("get-program-foreign.txt", &programs::details(&foreign()));
    golden(
        "attach-xdp.txt",
        &links::details(&xdp_link(713_799_068, "enp1s0")),
    );
    golden("attach-tc.txt", &links::details(&tc_link()));
    golden("attach-tcx.txt", &links::details(&tcx_link()));
    golden("attach-tracepoint.txt", &links::details(&tracepoint_link()));
    golden("list-programs-all.txt", &programs::list(&summaries()));
    golden("list-programs.txt", &programs::list(&summaries()[1..]));
    golden("list-programs-empty.txt", &programs::list(&[]));
    golden(
        "list-links.txt",
        &links::list(&[
            xdp_link(1_301_256_968, "eno4"),
            tracepoint_link(),
            tc_link(),
            tcx_link(),
        ]),
    );
    golden("list-links-empty.txt", &links::list(&[]));
    let probes = probe_links();
    golden("list-links-probes.txt", &links::list(&probes));
    let all: Vec<String> = probes.iter().map(links::details).collect();
    golden("get-link-probes.txt", &all.join("\n"));
}

#[test]
fn a_link_that_leads_nowhere_says_so() {
    let mut gone = tcx_link();
    gone.gone = true;
    let there = tc_link();
    let state = |link: &Link| {
        let shown = links::details(link);
        let state = shown.lines().find(|line| line.starts_with(" State:"));
        state.map(|line| line.contains("gone"))
    };
    assert_eq!((state(&gone), state(&there)), (Some(true), None));
    let list = links::list(&[gone, there]);
    let ends: Vec<&str> = list.lines().skip(1).map(str::trim_end).collect();
    assert!(
        ends[0].ends_with("eno3 egress pos-1, gone") && ends[1].ends_with("enp1s0 ingress pos-0"),
        "{list}"
    );
}

#[test]
fn json() {
    let program = |program: &Program| json::render(&ProgramJson::from(program)).unwrap();
    golden(
        "load-file.json",
        &json::render(&[ProgramJson::from(&tc_global())]).unwrap(),
    );
    golden("get-program.json", &program(&attached()));
    golden("get-program-foreign.json", &program(&foreign()));
    golden(
        "get-link-xdp.json",
        &json::render(&LinkJson::from(&xdp_link(713_799_068, "enp1s0"))).unwrap(),
    );
    for (name, link) in [("tc", tc_link()), ("tcx", tcx_link())] {
        golden(
            &format!("get-link-{name}.json"),
            &json::render(&LinkJson::from(&link)).unwrap(),
        );
    }
    golden(
        "get-link-tracepoint.json",
        &json::render(&LinkJson::from(&tracepoint_link())).unwrap(),
    );
    golden(
        "list-links-probes.json",
        &json::render(&probe_links().iter().map(LinkJson::from).collect::<Vec<_>>()).unwrap(),
    );
    let summaries = summaries();
    golden(
        "list-programs-all.json",
        &json::render(
            &summaries
                .iter()
                .map(ProgramSummaryJson::from)
                .collect::<Vec<_>>(),
        )
        .unwrap(),
    );
    golden(
        "image-pull.json",
        &json::render(&ImageJson::from(&pulled())).unwrap(),
    );
}

fn diagnoses() -> Vec<Diagnosis> {
    let finding = |kind, place: &str, expected: &str, found: &str, remedy| Finding {
        kind,
        place: place.to_owned(),
        expected: expected.to_owned(),
        found: found.to_owned(),
        remedy,
    };
    let repair = |what: &str| Remedy::Repair(what.to_owned());
    let [left, repaired] = [Outcome::Left, Outcome::Repaired];
    let failed = Outcome::Failed(Box::new(LoaderError::ProgramGone {
        id: 7,
        path: "/run/bpfman/fs/prog_7".into(),
    }));
    let chain = finding(
        FindingKind::ChainDetached,
        "the TC chain on eth0 ingress",
        "program 6375 on the hook",
        "no such filter",
        repair("build the chain anew as it is recorded"),
    );
    let program = finding(
        FindingKind::ProgramUnpinned,
        "program 7 (pass)",
        "pinned at /run/bpfman/fs/prog_7",
        "no pin",
        repair("pin it again"),
    );
    let unknown = finding(
        FindingKind::Unknown,
        "/run/bpfman/fs/mine",
        "nothing that is recorded",
        "a folder with nothing in it",
        Remedy::ByHand("bpfman did not make it: remove it, or leave it".to_owned()),
    );
    let with = |finding: &Finding, outcome| Diagnosis {
        finding: finding.clone(),
        outcome,
    };
    vec![
        with(&program, left),
        with(&program, repaired),
        with(&chain, failed),
        with(&unknown, Outcome::Left),
    ]
}

#[test]
fn differences() {
    let found = diagnoses();
    golden("doctor.txt", &doctor::report(&found));
    golden("doctor-none.txt", &doctor::report(&[]));
    let asked = |asked| {
        let found = found.iter().map(|found| DiagnosisJson::new(found, asked));
        json::render(&found.collect::<Vec<_>>()).unwrap()
    };
    golden("doctor.json", &asked(false));
    golden("doctor-repair.json", &asked(true));
}

#[test]
fn control_characters_of_an_image_do_not_reach_the_terminal() {
    let mut program = xdp_pass();
    program.managed.as_mut().unwrap().metadata = pairs(&[("a\u{1b}[2J", "b\nc")]);
    let text = programs::details(&program);
    assert!(text.contains("a\\u{1b}[2J=b\\nc"), "{text}");
    assert!(!text.contains('\u{1b}'));
}
