//! What an engine itself holds after a build: the image under its tag, and nothing else, however the build ended.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};

use bpfman_tests::cli::Bpfman;
use bpfman_tests::engines::Engine;
use bpfman_tests::lanes;
use bpfman_tests::project::Project;
use bpfman_tests::registry::Registry;

const TAG: &str = "registry.example/acme/counter:1";

/// An engine, its variable and its `--runtime`.
type Runtime<'a> = (&'a Engine, &'static str, &'static str);

fn docker(engine: &Engine) -> Runtime<'_> {
    (engine, "DOCKER_HOST", "docker")
}

fn podman(engine: &Engine) -> Runtime<'_> {
    (engine, "CONTAINER_HOST", "podman")
}

/// `image build` of a project that pushes nothing.
fn build(bpfman: &Bpfman, runtime: &str, containerfile: &Path, project: &Project) -> Command {
    let mut command = bpfman.command(&["image", "build", "--no-push", "-r", runtime, "-t", TAG]);
    command.arg("-f").arg(containerfile);
    command.args(["-c", project.arg()]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn ours() -> std::path::PathBuf {
    lanes::repository().join("Containerfile.bytecode.multi.arch")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Builds, builds anew, fails, and looks each time at what the engine has.
fn holds_one_image((engine, variable, runtime): Runtime<'_>, buildkit: &str) {
    let (Some(registry), Some(first), Some(second)) = (
        Registry::start(),
        Project::compile(&["amd64", "s390x"]),
        Project::compile(&["amd64", "arm64", "s390x"]),
    ) else {
        return;
    };
    let bpfman = Bpfman::new()
        .env(variable, engine.socket())
        .env("DOCKER_BUILDKIT", buildkit);
    let tag = registry.reference("acme/counter:1");
    let build = |containerfile: &Path, project: &Project| {
        let mut command = bpfman.command(&["image", "build", "-r", runtime, "-t", &tag]);
        command.arg("-f").arg(containerfile);
        command.args(["-c", project.arg()]).output().unwrap()
    };
    // What the registry was sent.
    let puts = || registry.log().matches("PUT /v2/").count();
    assert_eq!(engine.images(), BTreeMap::new());
    let output = build(&ours(), &first);
    assert!(output.status.success(), "{output:?}");
    let before = engine.images();
    let names: Vec<_> = before.values().collect();
    assert_eq!(names, [std::slice::from_ref(&tag)], "{runtime}");
    let sent = puts();
    assert!(sent > 0, "{}", registry.log());

    // The second architecture has a step that fails after the first was built.
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("Containerfile");
    let text = std::fs::read_to_string(ours()).unwrap();
    let text = text.replace("COPY ${BC_ARM64_EL} /", "COPY nothing-here /");
    std::fs::write(&broken, text).unwrap();
    let output = build(&broken, &second);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(said(&output).contains("nothing-here"), "{output:?}");
    assert_eq!(engine.images(), before, "{runtime}: after a failed build");

    // Every image is built, and the labels of the last are wrong.
    let text = std::fs::read_to_string(ours()).unwrap();
    let text = format!("{text}LABEL \"io.ebpf.maps\"=\"{{}}\"\n");
    std::fs::write(&broken, text).unwrap();
    let output = build(&broken, &second);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(said(&output).contains("io.ebpf.maps"), "{output:?}");
    assert_eq!(engine.images(), before, "{runtime}: after a wrong image");

    // The old image loses its name to the new one, and stays: it was there before.
    assert_eq!(puts(), sent, "{runtime}: something was sent");
    let output = build(&ours(), &second);
    assert!(output.status.success(), "{output:?}");
    let after = engine.images();
    let named: Vec<_> = after
        .iter()
        .filter(|(_, names)| !names.is_empty())
        .collect();
    assert_eq!(named.len(), 1, "{runtime}: {after:?}");
    assert!(!before.contains_key(named[0].0));
    assert!(after.len() <= 2, "{runtime}: {after:?}");
}

#[test]
fn docker_with_buildkit() {
    let Some(engine) = Engine::docker() else {
        return;
    };
    holds_one_image(docker(&engine), "1");
}

#[test]
fn docker_with_the_classic_builder() {
    let Some(engine) = Engine::docker() else {
        return;
    };
    holds_one_image(docker(&engine), "0");
}

#[test]
fn docker_of_trixie() {
    let Some(engine) = Engine::docker26() else {
        return;
    };
    holds_one_image(docker(&engine), "1");
}

#[test]
fn podman_of_bookworm() {
    let Some(engine) = Engine::podman() else {
        return;
    };
    holds_one_image(podman(&engine), "1");
}

/// A socket before an engine's. A connection that asks for `stop` is held, and said so; the others are forwarded. When
/// the engine ends, its connections do.
fn proxy(engine: &Engine, folder: &Path, stop: &'static str) -> (String, Receiver<()>) {
    let path = folder.join("proxy.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let upstream = engine.socket().strip_prefix("unix://").unwrap().to_owned();
    let (said, stopped) = channel();
    // Ends with the test's process: it waits for connections that nobody makes.
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let Ok(mut server) = UnixStream::connect(&upstream) else {
                continue;
            };
            let (mut back, mut to_client) =
                (server.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut back, &mut to_client);
                let _ = to_client.shutdown(Shutdown::Both);
            });
            let said = said.clone();
            std::thread::spawn(move || {
                let mut buffer = [0; 1 << 16];
                while let Ok(count) = client.read(&mut buffer) {
                    if count == 0 {
                        break;
                    }
                    let text = String::from_utf8_lossy(&buffer[..count]);
                    if text.lines().next().is_some_and(|line| line.contains(stop)) {
                        let _ = said.send(());
                        // Held open: the client waits for an answer.
                        let _ = client.read_to_end(&mut Vec::new());
                        break;
                    }
                    if server.write_all(&buffer[..count]).is_err() {
                        break;
                    }
                }
                let _ = server.shutdown(Shutdown::Both);
            });
        }
    });
    (format!("unix://{}", path.display()), stopped)
}

/// A build that waits for the engine's answer to a request with these words.
fn waiting(
    (engine, variable, runtime): Runtime<'_>,
    folder: &Path,
    stop: &'static str,
) -> Option<Child> {
    let project = Project::compile(&["amd64", "s390x"])?;
    let (socket, stopped) = proxy(engine, folder, stop);
    let bpfman = Bpfman::new().env(variable, &socket);
    let child = build(&bpfman, runtime, &ours(), &project).spawn().unwrap();
    stopped.recv().unwrap();
    Some(child)
}

fn signalled(runtime: Runtime<'_>, signal: &str, status: i32) {
    // Before anything is built, and when the first image is there.
    for stop in ["/build?", "/get"] {
        let folder = tempfile::tempdir().unwrap();
        let Some(child) = waiting(runtime, folder.path(), stop) else {
            return;
        };
        bpfman_tests::server::signal(&child, signal);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{stop}: {output:?}");
        assert_eq!(output.stdout, b"");
        let message = said(&output);
        let words = format!("stopped by SIG{signal} while building {TAG}");
        assert!(message.contains(&words), "{stop}: {message}");
        assert_eq!(runtime.0.images(), BTreeMap::new(), "{stop}");
    }
}

#[test]
fn a_build_that_is_interrupted_leaves_nothing_in_docker() {
    let Some(engine) = Engine::docker() else {
        return;
    };
    signalled(docker(&engine), "INT", 130);
}

#[test]
fn a_build_that_is_ended_leaves_nothing_in_podman() {
    let Some(engine) = Engine::podman() else {
        return;
    };
    signalled(podman(&engine), "TERM", 143);
}

/// The daemon ends while it is waited for.
fn dies(start: fn() -> Option<Engine>, runtime: fn(&Engine) -> Runtime<'_>) {
    for stop in ["/build?", "/get"] {
        let folder = tempfile::tempdir().unwrap();
        let Some(engine) = start() else { return };
        let Some(child) = waiting(runtime(&engine), folder.path(), stop) else {
            return;
        };
        drop(engine);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{stop}: {output:?}");
        assert_eq!(output.stdout, b"");
        let message = said(&output);
        assert!(message.contains(" cannot "), "{stop}: {message}");
        assert!(!message.contains("panicked"), "{stop}: {message}");
    }
}

#[test]
fn docker_dies_in_the_middle() {
    dies(Engine::docker, docker);
}

#[test]
fn podman_dies_in_the_middle() {
    dies(Engine::podman, podman);
}

#[test]
fn docker_over_tls() {
    let (Some((engine, address, certificates)), Some(project)) = (
        Engine::docker_secure(),
        Project::compile(&["amd64", "s390x"]),
    ) else {
        return;
    };
    let tcp = format!("tcp://{address}");
    let folder = certificates.path().to_str().unwrap();
    let bpfman = Bpfman::new()
        .env("DOCKER_HOST", &tcp)
        .env("DOCKER_TLS_VERIFY", "1")
        .env("DOCKER_CERT_PATH", folder);
    // The classic builder goes through bollard, BuildKit does not.
    for buildkit in ["1", "0"] {
        let mut command = build(&bpfman, "docker", &ours(), &project);
        let output = command.env("DOCKER_BUILDKIT", buildkit).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    assert!(!engine.images().is_empty());

    // A daemon of another authority, no certificate of ours, no authority at all.
    let other = tempfile::tempdir().unwrap();
    for (missing, words) in [
        ("key.pem", "key.pem: No such file"),
        ("cert.pem", "ertificate"),
        ("ca.pem", "ca.pem: No such file"),
    ] {
        for name in ["ca.pem", "cert.pem", "key.pem"] {
            let _ = std::fs::copy(certificates.path().join(name), other.path().join(name));
        }
        std::fs::remove_file(other.path().join(missing)).unwrap();
        if missing == "cert.pem" {
            std::fs::remove_file(other.path().join("key.pem")).unwrap();
        }
        let mut command = build(&bpfman, "docker", &ours(), &project);
        let output = command.env("DOCKER_CERT_PATH", other.path()).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(1), "{missing}: {output:?}");
        let message = said(&output);
        assert!(message.contains(&tcp), "{missing}: {message}");
        assert!(message.contains(words), "{missing}: {message}");
    }
}
