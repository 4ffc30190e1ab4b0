//! Uprobes on stripped files, by the symbols of their debug files, and on libraries of systems without `ld.so.cache`, on
//! this machine's own kernel. As root. What stands for a container is a process in a chroot.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use bpfman_tests::cli::{Bpfman, Outcome};
use bpfman_tests::lanes;
use bpfman_tests::objects::Object;
use tempfile::TempDir;

/// A program that calls `work` once, and one that waits to be killed.
const WORK: &str = "__attribute__((noipa)) int work(int x) { return x + 1; }\nint main(int c, char **v) { return work(c) == 0; }\n";
const PAUSE: &str = "#include <unistd.h>\nint main(void) { return pause(); }\n";
const LIBRARY: &str = "int work(int x) { return x + 1; }\n";

/// Runs a tool of the host; `false` when it failed.
fn tool(name: &str, arguments: &[&str]) {
    let output = Command::new(name).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {arguments:?}: {said}");
}

/// A process whose root is a folder with little in it.
struct Container {
    root: TempDir,
    child: Child,
}

impl Container {
    /// With a static program, so that nothing else is needed.
    fn start() -> Self {
        Self::run(&["-static"])
    }

    /// With a program that has a run path and the libraries that it needs.
    fn start_dynamic() -> Self {
        Self::run(&["-Wl,--enable-new-dtags,-rpath,$ORIGIN/../opt:$ORIGIN/../$LIB/private"])
    }

    fn run(link: &[&str]) -> Self {
        let root = TempDir::new().unwrap();
        let at = |path: &str| {
            let path = root.path().join(path.trim_start_matches('/'));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            path
        };
        let _ = at("/etc/x");
        let pause = at("/bin/pause");
        compile(PAUSE, &pause, link);
        if link != ["-static"] {
            let needed = Command::new("ldd").arg(&pause).output().unwrap();
            let needed = String::from_utf8(needed.stdout).unwrap();
            for library in needed
                .split_whitespace()
                .filter(|word| word.starts_with('/'))
            {
                std::fs::copy(library, at(library)).unwrap();
            }
        }
        let child = Command::new("chroot")
            .args([root.path(), Path::new("/bin/pause")])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // chroot(1) becomes the program.
        let exe = format!("/proc/{}/exe", child.id());
        while std::fs::read_link(&exe).unwrap() != pause {
            std::thread::yield_now();
        }
        Self { root, child }
    }

    fn pid(&self) -> String {
        self.child.id().to_string()
    }

    /// A path in it, its folder made.
    fn path(&self, path: &str) -> PathBuf {
        let path = self.root.path().join(path.trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn compile(source: &str, output: &Path, arguments: &[&str]) {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("source.c");
    std::fs::write(&file, source).unwrap();
    let mut all = vec!["-O1", "-g", "-Wl,--build-id=sha1", "-o"];
    all.extend([output.to_str().unwrap(), file.to_str().unwrap()]);
    all.extend(arguments);
    tool("cc", &all);
}

/// A loaded program that counts.
struct Probe {
    bpfman: Bpfman,
    id: String,
    bpftool: PathBuf,
}

impl Probe {
    fn load() -> Option<Self> {
        let object = Object::compile(include_str!("probed/probes.bpf.c"))?;
        let bpftool = lanes::tool("bpftool")?;
        for name in ["cc", "objcopy", "strip", "chroot", "xz"] {
            lanes::tool(name)?;
        }
        if !lanes::root() {
            return None;
        }
        let bpfman = Bpfman::new();
        let program = ["--programs", "uprobe:at_entry", "-o", "json"];
        let mut arguments = vec!["load", "file", "--path", object.arg()];
        arguments.extend(program);
        let loaded = bpfman.run(&arguments);
        let loaded: serde_json::Value = serde_json::from_str(loaded.ok()).unwrap();
        let id = loaded[0]["kernel_state"]["program_id"].to_string();
        Some(Self {
            bpfman,
            id,
            bpftool,
        })
    }

    fn attach(&self, container: &Container, target: &str) -> Outcome {
        let pid = container.pid();
        let place = ["-t", target, "-f", "work", "-c", &pid, "-o", "json"];
        let mut arguments = vec!["attach", &self.id, "uprobe"];
        // `-o` is the offset of a uprobe.
        arguments.extend(&place[..6]);
        arguments.extend(["--output", "json"]);
        self.bpfman.run(&arguments)
    }

    /// Attaches and says which file was found; detaches again.
    fn path(&self, container: &Container, target: &str) -> String {
        let link = self.attach(container, target);
        let link: serde_json::Value = serde_json::from_str(link.ok()).unwrap();
        self.detach(&link);
        link["attachment"]["path"].as_str().unwrap().to_owned()
    }

    fn detach(&self, link: &serde_json::Value) {
        let _ = self
            .bpfman
            .run(&["detach", &link["link_id"].to_string()])
            .ok();
    }

    fn hits(&self) -> u64 {
        let map = self
            .bpfman
            .runtime()
            .join(format!("fs/maps/{}/hits", self.id));
        let output = Command::new(&self.bpftool)
            .args(["-j", "map", "lookup", "pinned"])
            .arg(map)
            .args(["key", "2", "0", "0", "0"])
            .output()
            .unwrap();
        let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        found["formatted"]["value"].as_u64().unwrap()
    }

    /// The program counts the calls of `work` in a file of the container.
    fn counts(&self, container: &Container, target: &str, case: &str) {
        let link = self.attach(container, target);
        assert_eq!(link.status, Some(0), "{case}: {}", link.stderr);
        let link: serde_json::Value = serde_json::from_str(link.ok()).unwrap();
        let before = self.hits();
        for _ in 0..3 {
            let run = Command::new(container.path(target)).status().unwrap();
            assert!(run.success(), "{case}");
        }
        assert_eq!(self.hits() - before, 3, "{case}");
        self.detach(&link);
    }

    fn refused(&self, container: &Container, target: &str, words: &[&str]) {
        let refused = self.attach(container, target);
        let said = refused.failure();
        for word in words {
            assert!(said.contains(word), "no {word:?} in {said}");
        }
    }
}

/// The build ID of a file as its path below `.build-id`.
fn build_id_path(file: &Path) -> String {
    let output = Command::new("readelf")
        .arg("-n")
        .arg(file)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let (_, id) = text.split_once("Build ID: ").unwrap();
    let id = id.split_whitespace().next().unwrap();
    format!("{}/{}.debug", &id[..2], &id[2..])
}

/// Compiles `/bin/t`, and moves its symbols to a debug file that lies nowhere yet.
fn stripped(container: &Container, kind: &str) -> PathBuf {
    let target = container.path("/bin/t");
    let debug = container.path("/aside/t.debug");
    compile(WORK, &target, &[kind]);
    let (target, debug_arg) = (target.to_str().unwrap(), debug.to_str().unwrap());
    tool("objcopy", &["--only-keep-debug", target, debug_arg]);
    tool("strip", &[target]);
    debug
}

fn link_to(container: &Container, debug: &Path) {
    let target = container.path("/bin/t");
    let link = format!("--add-gnu-debuglink={}", debug.display());
    tool("objcopy", &[&link, target.to_str().unwrap()]);
}

#[test]
fn symbols_are_found_in_debug_files() {
    let Some(probe) = Probe::load() else { return };
    let container = Container::start();
    for kind in ["-static", "-static-pie"] {
        let debug = stripped(&container, kind);
        let by_id = format!(
            "/usr/lib/debug/.build-id/{}",
            build_id_path(&container.path("/bin/t"))
        );
        probe.refused(
            &container,
            "/bin/t",
            &[
                "/bin/t",
                "it is stripped",
                &by_id,
                "--offset without --fn-name",
            ],
        );
        // By the build ID, and beside the file without a link to it.
        let places = [by_id.as_str(), "/bin/t.debug", "/bin/.debug/t.debug"];
        for place in places
            .into_iter()
            .chain(["/usr/lib/debug/bin/t.debug", "/usr/lib/debug/bin/t"])
        {
            let place = container.path(place);
            std::fs::copy(&debug, &place).unwrap();
            probe.counts(
                &container,
                "/bin/t",
                &format!("{kind}, {}", place.display()),
            );
            std::fs::remove_file(place).unwrap();
        }
        // By name and checksum alone.
        let target = container.path("/bin/t");
        let section = "--remove-section=.note.gnu.build-id";
        tool("objcopy", &[section, target.to_str().unwrap()]);
        link_to(&container, &debug);
        for place in [
            "/bin/t.debug",
            "/bin/.debug/t.debug",
            "/usr/lib/debug/bin/t.debug",
        ] {
            let place = container.path(place);
            std::fs::copy(&debug, &place).unwrap();
            probe.counts(
                &container,
                "/bin/t",
                &format!("{kind}, link, {}", place.display()),
            );
            std::fs::remove_file(place).unwrap();
        }
        // Through a link to the file.
        let _ = std::fs::remove_file(container.path("/usr/bin/alias"));
        symlink("/bin/t", container.path("/usr/bin/alias")).unwrap();
        std::fs::copy(&debug, container.path("/bin/t.debug")).unwrap();
        let _ = probe.attach(&container, "/usr/bin/alias").ok();
        std::fs::remove_file(container.path("/bin/t.debug")).unwrap();
    }
}

#[test]
fn symbols_are_found_in_mini_debug_info() {
    let Some(probe) = Probe::load() else { return };
    let container = Container::start();
    for check in ["crc32", "crc64", "sha256"] {
        let debug = stripped(&container, "-static-pie");
        // As rpm makes them: the table of symbols alone.
        let debug = debug.to_str().unwrap();
        tool("objcopy", &["-S", "--keep-symbol=work", debug]);
        tool("xz", &["-f", "-k", "-C", check, debug]);
        let section = format!("--add-section=.gnu_debugdata={debug}.xz");
        let target = container.path("/bin/t");
        tool("objcopy", &[&section, target.to_str().unwrap()]);
        probe.counts(&container, "/bin/t", check);
    }
    // Damaged: it is named, and nothing else happens.
    let _ = stripped(&container, "-static-pie");
    let broken = container.path("/aside/broken");
    std::fs::write(&broken, b"\xfd7zXZ\0nonsense").unwrap();
    let section = format!("--add-section=.gnu_debugdata={}", broken.display());
    tool(
        "objcopy",
        &[&section, container.path("/bin/t").to_str().unwrap()],
    );
    probe.refused(
        &container,
        "/bin/t",
        &["it is stripped", ".gnu_debugdata is not used"],
    );
}

#[test]
fn debug_files_that_do_not_belong_to_the_file_are_refused() {
    let Some(probe) = Probe::load() else { return };
    let container = Container::start();
    let debug = stripped(&container, "-static-pie");
    link_to(&container, &debug);
    let by_id = format!(
        "/usr/lib/debug/.build-id/{}",
        build_id_path(&container.path("/bin/t"))
    );
    // Of another build: other code before the function.
    let other = container.path("/aside/other");
    let source = format!("int more(int x) {{ return x * x * x; }}\n{WORK}");
    compile(&source, &other, &["-static-pie"]);
    let other_debug = container.path("/aside/other.debug");
    let names = [other.to_str().unwrap(), other_debug.to_str().unwrap()];
    tool("objcopy", &["--only-keep-debug", names[0], names[1]]);
    let beside = container.path("/bin/t.debug");
    for place in [&beside, &container.path(&by_id)] {
        std::fs::copy(&other_debug, place).unwrap();
        probe.refused(
            &container,
            "/bin/t",
            &["it is stripped", "another build", "build ID"],
        );
        std::fs::remove_file(place).unwrap();
    }
    // Changed since: its checksum.
    let mut bytes = std::fs::read(&debug).unwrap();
    bytes.push(0);
    std::fs::write(&beside, &bytes).unwrap();
    probe.refused(&container, "/bin/t", &["another build", "checksum"]);
    // No ELF file, and one that ends in its header.
    for bytes in [&b"text"[..], &bytes[..100]] {
        std::fs::write(&beside, bytes).unwrap();
        probe.refused(
            &container,
            "/bin/t",
            &["it is stripped", "t.debug is not used"],
        );
    }
    std::fs::remove_file(&beside).unwrap();
    // A pipe is not waited for, a link does not lead out of the container.
    tool("mkfifo", &[beside.to_str().unwrap()]);
    probe.refused(
        &container,
        "/bin/t",
        &["t.debug is not used", "regular file"],
    );
    std::fs::remove_file(&beside).unwrap();
    symlink(&debug, &beside).unwrap();
    probe.refused(&container, "/bin/t", &["it is stripped"]);
    std::fs::remove_file(&beside).unwrap();
    symlink("/aside/t.debug", &beside).unwrap();
    probe.counts(&container, "/bin/t", "a link that stays in the container");
}

#[test]
fn a_function_that_the_debug_file_lacks_is_not_called_stripped() {
    let Some(probe) = Probe::load() else { return };
    let container = Container::start();
    let debug = stripped(&container, "-static-pie");
    std::fs::copy(&debug, container.path("/bin/t.debug")).unwrap();
    let pid = container.pid();
    let arguments = ["uprobe", "-t", "/bin/t", "-f", "worc", "-c", &pid];
    let mut all = vec!["attach", &probe.id];
    all.extend(arguments);
    let refused = probe.bpfman.run(&all);
    let said = refused.failure();
    assert!(said.contains("has no function `worc`"), "{said}");
    assert!(said.contains("did you mean `work`?"), "{said}");
    assert!(!said.contains("stripped"), "{said}");
}

#[test]
fn libraries_are_found_along_the_run_path_of_the_program() {
    let Some(probe) = Probe::load() else { return };
    let container = Container::start_dynamic();
    let library = container.path("/aside/lib");
    compile(LIBRARY, &library, &["-shared", "-fPIC"]);
    // The first is there twice: the run path goes before the default folders.
    std::fs::copy(&library, container.path("/usr/lib/libwork.so.1")).unwrap();
    let cases = [
        ("/opt/libwork.so.1", "libwork", "/bin/../opt/libwork.so.1"),
        (
            "/opt/libwork.so.1",
            "libwork.so.1",
            "/bin/../opt/libwork.so.1",
        ),
        (
            "/lib64/private/libdeep.so",
            "libdeep",
            "/bin/../lib64/private/libdeep.so",
        ),
    ];
    for (place, name, expected) in cases {
        std::fs::copy(&library, container.path(place)).unwrap();
        assert_eq!(probe.path(&container, name), expected, "{name}");
    }
    // What it has mapped.
    let pid = container.pid();
    let mut arguments = vec!["attach", &probe.id, "uprobe", "-t", "libc", "-f", "malloc"];
    arguments.extend(["-c", &pid, "--output", "json"]);
    let link = probe.bpfman.run(&arguments);
    let link: serde_json::Value = serde_json::from_str(link.ok()).unwrap();
    let path = link["attachment"]["path"].as_str().unwrap();
    assert!(
        path.ends_with("/libc.so.6") && !path.contains("tmp"),
        "{path}"
    );
}

#[test]
fn libraries_are_found_without_a_cache() {
    let Some(probe) = Probe::load() else { return };
    let container = Container::start();
    let library = container.path("/aside/lib");
    compile(LIBRARY, &library, &["-shared", "-fPIC"]);
    let arch = std::env::consts::ARCH;
    let multiarch = format!("/lib/{arch}-linux-gnu/libmulti.so.2");
    let musl = format!("/lib/ld-musl-{arch}.so.1");
    std::fs::write(
        container.path(&format!("/etc/ld-musl-{arch}.path")),
        "/usr/musl\n/usr/more:/usr/most\n",
    )
    .unwrap();
    let cases: [(&str, &str, &str); 7] = [
        (&multiarch, "libmulti", &multiarch),
        ("/usr/lib64/libwide.so", "libwide", "/usr/lib64/libwide.so"),
        (
            "/usr/lib/libplain.so.3",
            "libplain.so",
            "/usr/lib/libplain.so.3",
        ),
        ("/usr/musl/libmusl1.so", "libmusl1", "/usr/musl/libmusl1.so"),
        (
            "/usr/most/libmusl2.so.1",
            "libmusl2",
            "/usr/most/libmusl2.so.1",
        ),
        (&musl, "libc", &musl),
        ("/usr/lib/libnew.so.10", "libnew", "/usr/lib/libnew.so.10"),
    ];
    std::fs::copy(&library, container.path("/usr/lib/libnew.so.9")).unwrap();
    for (place, name, expected) in cases {
        std::fs::copy(&library, container.path(place)).unwrap();
        assert_eq!(probe.path(&container, name), expected, "{name}");
    }
    // A linker script is passed over, and what is not there is looked for everywhere.
    std::fs::write(
        container.path("/lib/libscript.so"),
        "GROUP ( libscript.so.1 )",
    )
    .unwrap();
    std::fs::copy(&library, container.path("/lib/libscript.so.1")).unwrap();
    assert_eq!(probe.path(&container, "libscript"), "/lib/libscript.so.1");
    let missing = [
        "no library `libnone`",
        "DT_RUNPATH",
        "/etc/ld.so.cache",
        "/lib, /usr/lib",
    ];
    probe.refused(&container, "libnone", &missing);
    // Neither links that lead out of the container nor pipes are taken.
    symlink(&library, container.path("/lib/libout.so")).unwrap();
    symlink(
        "../../../../../../../../../../proc/1/exe",
        container.path("/lib/libproc.so"),
    )
    .unwrap();
    tool(
        "mkfifo",
        &[container.path("/lib/libpipe.so").to_str().unwrap()],
    );
    for name in ["libout", "libproc", "libpipe"] {
        probe.refused(&container, name, &[&format!("no library `{name}`")]);
    }
    // A cache that cannot be read is passed over, and named where nothing else helps.
    std::fs::write(container.path("/etc/ld.so.cache"), "no cache").unwrap();
    assert_eq!(probe.path(&container, "libscript"), "/lib/libscript.so.1");
    probe.refused(
        &container,
        "libnone",
        &["/etc/ld.so.cache", "no cache of glibc's"],
    );
}
