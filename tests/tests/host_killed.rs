//! A command is killed before each of its system calls, or one of them fails: the next command finds nothing half done.
//! On this machine's own kernel, as root.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod syscalls;
#[allow(dead_code, reason = "other tests use the rest of it")]
mod wire;

use bpfman_tests::cli::Bpfman;
use bpfman_tests::images::{Image, gzip, tar};
use bpfman_tests::objects::{Object, Packets};
use bpfman_tests::registry::Registry;

use syscalls::Tracer;
use wire::Wire;

/// Calls that change nothing are sampled: every so many.
const SAMPLED: usize = 13;
/// What calls fail with: ENOSPC, EDQUOT, EIO, EMFILE, ENOMEM.
const ERRORS: [i32; 5] = [28, 122, 5, 24, 12];

/// Where commands run.
struct Host {
    bpfman: Bpfman,
    object: Object,
    wire: Wire,
}

/// A command that changes something, or looks.
struct Case {
    name: &'static str,
    /// Makes the state before it, whatever is there, and gives its arguments.
    prepare: fn(&Host) -> Vec<String>,
    /// Programs and links before and after it.
    counts: [(usize, usize); 2],
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

impl Host {
    fn new(name: &str) -> Option<Self> {
        let object = Object::counting(Packets::All)?;
        let wire = Wire::new(name)?;
        Some(Self {
            bpfman: Bpfman::new(),
            object,
            wire,
        })
    }

    /// Ids in a column of a list.
    fn ids(&self, list: &str, column: usize) -> Vec<String> {
        let listed = self.bpfman.run(&["list", list]);
        let rows = listed.ok().lines().skip(1);
        let id = |row: &str| row.split_whitespace().nth(column).map(str::to_owned);
        rows.filter_map(id).collect()
    }

    fn counts(&self) -> (usize, usize) {
        (self.ids("programs", 0).len(), self.ids("links", 1).len())
    }

    fn load(&self) -> Vec<String> {
        words(&[
            "load",
            "file",
            "--path",
            self.object.arg(),
            "--programs",
            "xdp:on_xdp",
            "tc:on_tc",
            "tracepoint:on_kill",
        ])
    }

    fn run(&self, arguments: &[String]) {
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        self.bpfman.run(&arguments).ok();
    }

    /// The ids of three programs for XDP, TC and a tracepoint, without links.
    fn loaded(&self) -> Vec<String> {
        let ids = self.ids("programs", 0);
        if ids.len() != 3 {
            self.unloaded();
            self.run(&self.load());
            return self.ids("programs", 0);
        }
        for link in self.ids("links", 1) {
            self.bpfman.run(&["detach", &link]).ok();
        }
        ids
    }

    fn unloaded(&self) {
        for id in self.ids("programs", 0) {
            self.bpfman.run(&["unload", &id]).ok();
        }
    }

    fn attach(&self, hook: usize) -> Vec<String> {
        let id = &self.loaded()[hook];
        let netns = self.wire.path();
        let hooks: [&[&str]; 3] = [
            &["xdp", "-i", "veth0", "-p", "50", "-n", &netns],
            &[
                "tc", "-d", "ingress", "-i", "veth0", "-p", "50", "-n", &netns,
            ],
            &["tracepoint", "-t", "syscalls/sys_enter_kill"],
        ];
        let mut arguments = vec!["attach", id];
        arguments.extend(hooks[hook]);
        words(&arguments)
    }

    /// The link of a program that is attached there alone.
    fn attached(&self, hook: usize) -> String {
        if self.counts() != (3, 1) {
            self.run(&self.attach(hook));
        }
        self.ids("links", 1)[0].clone()
    }

    /// Nothing is half done.
    #[track_caller]
    fn agrees(&self, case: &Case, context: &str) -> (usize, usize) {
        let counts = self.counts();
        let doctor = self.bpfman.run(&["doctor"]);
        assert_eq!(doctor.status, Some(0), "{context}: {doctor:#?}");
        assert!(case.counts.contains(&counts), "{context}: {counts:?}");
        counts
    }
}

const CASES: [Case; 9] = [
    Case {
        name: "load",
        prepare: |host| {
            host.unloaded();
            host.load()
        },
        counts: [(0, 0), (3, 0)],
    },
    Case {
        name: "attach xdp",
        prepare: |host| host.attach(0),
        counts: [(3, 0), (3, 1)],
    },
    Case {
        name: "detach xdp",
        prepare: |host| words(&["detach", &host.attached(0)]),
        counts: [(3, 1), (3, 0)],
    },
    Case {
        name: "attach tc",
        prepare: |host| host.attach(1),
        counts: [(3, 0), (3, 1)],
    },
    Case {
        name: "detach tc",
        prepare: |host| words(&["detach", &host.attached(1)]),
        counts: [(3, 1), (3, 0)],
    },
    Case {
        name: "attach tracepoint",
        prepare: |host| host.attach(2),
        counts: [(3, 0), (3, 1)],
    },
    Case {
        name: "detach tracepoint",
        prepare: |host| words(&["detach", &host.attached(2)]),
        counts: [(3, 1), (3, 0)],
    },
    Case {
        name: "unload",
        prepare: |host| {
            if host.counts() != (3, 1) {
                host.run(&host.attach(0));
            }
            words(&["unload", &host.ids("programs", 0)[0]])
        },
        counts: [(3, 1), (2, 0)],
    },
    Case {
        name: "list",
        prepare: |host| {
            host.loaded();
            words(&["list", "programs"])
        },
        counts: [(3, 0), (3, 0)],
    },
];

#[test]
fn killed_before_any_system_call() {
    let (Some(host), Some(tracer)) = (Host::new("killed"), Tracer::new()) else {
        return;
    };
    for case in &CASES {
        let calls = tracer.calls(&host.bpfman, &(case.prepare)(&host));
        let (mut killed, mut outcomes) = (0, [0, 0]);
        for (place, kind) in calls.iter().enumerate() {
            if !matches!(kind.as_str(), "file" | "change") && place % SAMPLED != 0 {
                continue;
            }
            let arguments = (case.prepare)(&host);
            let n = place + 1;
            if tracer.kill(&host.bpfman, n, &arguments) {
                killed += 1;
            }
            let context = format!("{}, killed before call {n} ({kind})", case.name);
            let counts = host.agrees(case, &context);
            outcomes[usize::from(counts != case.counts[0])] += 1;
        }
        println!(
            "{}: {} calls, killed before {killed}, {} undone, {} done",
            case.name,
            calls.len(),
            outcomes[0],
            outcomes[1]
        );
        assert!(killed > 20, "{}: killed {killed} times", case.name);
        let changes = case.counts[0] != case.counts[1];
        assert!(
            outcomes[0] > 0 && (outcomes[1] > 0) == changes,
            "{}",
            case.name
        );
    }
    host.unloaded();
}

#[test]
fn failed_file_operation_leaves_before_or_after() {
    let (Some(host), Some(tracer)) = (Host::new("failing"), Tracer::new()) else {
        return;
    };
    for case in &CASES {
        let calls = tracer.calls(&host.bpfman, &(case.prepare)(&host));
        let on_files = calls
            .iter()
            .filter(|kind| matches!(kind.as_str(), "file" | "read"));
        let on_files = on_files.count();
        let mut failed = 0;
        for n in 1..=on_files {
            let errno = ERRORS[n % ERRORS.len()];
            let arguments = (case.prepare)(&host);
            let outcome = tracer.fail(&host.bpfman, n, errno, &arguments);
            let context = format!("{}, call {n} failed with {errno}: {outcome:#?}", case.name);
            assert!(!outcome.stderr.contains("panicked"), "{context}");
            let counts = host.agrees(case, &context);
            match outcome.status {
                Some(0) => assert_eq!(counts, case.counts[1], "{context}"),
                Some(1) => {
                    failed += 1;
                    // What was done stays done when it cannot be printed.
                    let unprinted = outcome.stderr.contains("standard output");
                    let expected = case.counts[usize::from(unprinted)];
                    assert_eq!(counts, expected, "{context}");
                }
                _ => unreachable!("{context}"),
            }
        }
        println!(
            "{}: {on_files} calls on files, {failed} made it fail",
            case.name
        );
        assert!(failed > 0, "{}", case.name);
    }
    host.unloaded();
}

/// An image in a registry and the same in an archive.
struct Source {
    reference: String,
    archive: String,
    _registry: Registry,
    _maker: Bpfman,
}

impl Source {
    /// `None` after the test was skipped.
    fn new(name: &str) -> Option<Self> {
        let object = Object::counting(Packets::All)?;
        let registry = Registry::start()?;
        let layer = std::fs::read(object.path()).unwrap();
        let image = Image::new("on_xdp", "xdp", gzip(&tar(&[("program.o", &layer)])));
        image.push(&registry, &format!("{name}:v1"))?;
        let reference = registry.reference(&format!("{name}:v1"));
        let maker = Bpfman::new();
        maker.run(&["image", "pull", "-i", &reference]).ok();
        let archive = maker.home().join("image.tar");
        let archive = archive.to_str().unwrap().to_owned();
        maker
            .run(&["image", "export", &reference, "-o", &archive])
            .ok();
        Some(Self {
            reference,
            archive,
            _registry: registry,
            _maker: maker,
        })
    }
}

#[test]
fn killed_pull_and_import_leave_a_store_that_works() {
    let (Some(source), Some(tracer)) = (Source::new("killed"), Tracer::new()) else {
        return;
    };
    let (reference, archive) = (&source.reference, &source.archive);
    for command in [
        words(&["image", "import", archive]),
        words(&["image", "pull", "-i", reference]),
    ] {
        let bpfman = Bpfman::new();
        let calls = tracer.calls(&bpfman, &command);
        let mut killed = 0;
        for (place, kind) in calls.iter().enumerate() {
            // Threads make their calls in an order that changes: each kind of call is met again and again.
            if kind != "file" && place % SAMPLED != 0 {
                continue;
            }
            let bpfman = Bpfman::new();
            killed += usize::from(tracer.kill(&bpfman, place + 1, &command));
            let run = |arguments: &[&str]| bpfman.run(arguments).ok().to_owned();
            run(&["image", "list"]);
            let again: Vec<_> = command.iter().map(String::as_str).collect();
            run(&again);
            assert!(
                run(&["image", "list"]).contains("killed"),
                "call {}",
                place + 1
            );
            run(&["image", "pull", "-p", "Never", "-i", reference]);
            run(&["image", "prune"]);
            run(&["doctor"]);
        }
        println!("{command:?}: {} calls, killed before {killed}", calls.len());
        assert!(killed > 20);
    }
}

/// The case in which another name needs the same blobs.
const SHARED: &str = "remove one of two names";
/// That name.
const OTHER: &str = "localhost/other:v1";

/// A command on the store of images, and whether the image is in it before and after.
struct StoreCase {
    name: &'static str,
    command: Vec<String>,
    stored: [bool; 2],
}

impl StoreCase {
    /// Runs the command with a call that fails, and those that use the store after it. Whether the command failed; in
    /// the error, why the store is between before and after, or does not work.
    fn fail(
        &self,
        tracer: &Tracer,
        bpfman: &Bpfman,
        source: &Source,
        (n, errno): (usize, i32),
    ) -> Result<bool, String> {
        let outcome = tracer.fail(bpfman, n, errno, &self.command);
        let context = format!("{}, call {n} failed with {errno}: {outcome:?}", self.name);
        let run = |arguments: &[&str]| {
            let then = bpfman.run(arguments);
            match then.status {
                Some(0) => Ok(then.stdout),
                _ => Err(format!("{context}, then {arguments:?}: {then:?}")),
            }
        };
        let stored = run(&["image", "list"])?.contains("failing");
        let failed = outcome.status == Some(1) && outcome.stderr.contains("error: ");
        // What was done stays done when it cannot be printed.
        let done = !failed || outcome.stderr.contains("standard output");
        if !(failed || outcome.status == Some(0))
            || outcome.stderr.contains("panicked")
            || stored != self.stored[usize::from(done)]
        {
            return Err(format!("{context}, stored: {stored}"));
        }
        let never = ["image", "pull", "-p", "Never", "-i", &source.reference];
        if stored {
            run(&never)?;
        }
        if stored || self.stored[1] {
            let again: Vec<_> = self.command.iter().map(String::as_str).collect();
            run(&again)?;
        }
        if self.stored[1] {
            run(&never)?;
        }
        if self.name == SHARED {
            run(&["image", "pull", "-p", "Never", "-i", OTHER])?;
        }
        run(&["image", "prune"])?;
        let count = |folder: &str| {
            std::fs::read_dir(bpfman.images().join(folder))
                .unwrap()
                .count()
        };
        let empty = !self.stored[1] && self.name != SHARED;
        match (count(".bpfman/tmp"), count("blobs/sha256")) {
            (0, blobs) if (blobs == 0) == empty => Ok(failed),
            left => Err(format!("{context}, files left: {left:?}")),
        }
    }
}

#[test]
fn failed_file_operation_leaves_the_store_before_or_after() {
    let (Some(source), Some(tracer)) = (Source::new("failing"), Tracer::new()) else {
        return;
    };
    let (reference, archive) = (&source.reference, &source.archive);
    let cases: [(&str, &[&str], [bool; 2]); 6] = [
        ("import", &["image", "import", archive], [false, true]),
        ("pull", &["image", "pull", "-i", reference], [false, true]),
        ("remove", &["image", "remove", reference], [true, false]),
        (SHARED, &["image", "remove", reference], [true, false]),
        ("prune", &["image", "prune"], [true, true]),
        ("prune all", &["image", "prune", "--all"], [true, false]),
    ];
    for (name, command, stored) in cases {
        let case = StoreCase {
            name,
            command: words(command),
            stored,
        };
        let new = || {
            let bpfman = Bpfman::new();
            if stored[0] {
                bpfman.run(&["image", "import", archive]).ok();
            }
            if name == SHARED {
                bpfman.run(&["image", "tag", reference, OTHER]).ok();
            }
            bpfman
        };
        let calls = tracer.calls(&new(), &case.command);
        let on_files = |kind: &&String| matches!(kind.as_str(), "file" | "read");
        let on_files = calls.iter().filter(on_files).count();
        let (mut failed, mut wrong) = (0, Vec::new());
        for n in 1..=on_files {
            let errno = ERRORS[n % ERRORS.len()];
            match case.fail(&tracer, &new(), &source, (n, errno)) {
                Ok(has_failed) => failed += usize::from(has_failed),
                Err(why) => wrong.push(why),
            }
        }
        println!("{name}: {on_files} calls on files, {failed} made it fail");
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert!(failed > 0, "{name}");
    }
}
