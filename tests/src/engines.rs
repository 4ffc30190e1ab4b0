//! Real container engines with data folders of their own, so that nothing of the machine's engines is touched.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::lanes;
use crate::server::{Server, folder_in_memory};
use crate::tls::Tls;

/// A running engine. It and what it built are gone when the value is dropped.
#[derive(Debug)]
pub struct Engine {
    server: Server,
    socket: String,
    // After the server, which still writes into it while it stops.
    _folder: TempDir,
}

/// Where a `dockerd` keeps its images.
#[derive(Debug, Clone, Copy)]
enum Images {
    Own,
    Containerd,
}

impl Images {
    /// With the storage that lies on any file system.
    fn config(self) -> &'static str {
        match self {
            Self::Own => r#"{"storage-driver":"vfs"}"#,
            Self::Containerd => {
                r#"{"storage-driver":"native","features":{"containerd-snapshotter":true}}"#
            }
        }
    }
}

impl Engine {
    /// Starts `dockerd`, or `None` after the test was skipped.
    #[must_use]
    pub fn docker() -> Option<Self> {
        Self::dockerd(&lanes::tool("dockerd")?, &[], Images::Own, &[])
    }

    /// Starts `dockerd` with a second address that speaks TLS to those whom it knows, or `None` after the test was
    /// skipped. Gives that address (`HOST:PORT`), and a folder with a client's `ca.pem`, `cert.pem` and `key.pem`.
    ///
    /// # Panics
    ///
    /// When openssl fails, or the daemon does not say where it listens.
    #[must_use]
    pub fn docker_secure() -> Option<(Self, String, TempDir)> {
        let (program, certificates) = (lanes::tool("dockerd")?, Tls::make()?);
        let (server, client) = (certificates.server(), certificates.client());
        let folder = TempDir::new().expect("a temporary folder can be made");
        for (from, to) in [
            (certificates.ca(), "ca.pem"),
            (client.certificate, "cert.pem"),
            (client.key, "key.pem"),
        ] {
            std::fs::copy(from, folder.path().join(to)).expect("a file can be copied");
        }
        let [ca, cert, key] = [certificates.ca(), server.certificate, server.key]
            .map(|path| path.to_string_lossy().into_owned());
        let tls = ["--host", "tcp://127.0.0.1:0", "--tlsverify"];
        let files = ["--tlscacert", &ca, "--tlscert", &cert, "--tlskey", &key];
        let engine = Self::dockerd(&program, &[], Images::Own, &[&tls[..], &files].concat())?;
        let log = engine.server.log();
        let address = log.lines().find_map(|line| {
            let (_, rest) = line.split_once("API listen on 127.0.0.1:")?;
            let end = rest
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(rest.len());
            Some(format!("127.0.0.1:{}", &rest[..end]))
        });
        let address = address.unwrap_or_else(|| panic!("no address of TCP in:\n{log}"));
        Some((engine, address, folder))
    }

    /// Starts the `dockerd` of Debian trixie (26) with its containerd, or `None` after the test was skipped.
    ///
    /// # Panics
    ///
    /// When a program's path has no folder.
    #[must_use]
    pub fn docker26() -> Option<Self> {
        Self::trixie(Images::Own)
    }

    /// The same with its images in containerd, which new installations have from docker 29 on: a build can have more than
    /// one platform there, and attestations.
    ///
    /// # Panics
    ///
    /// As [`docker26`](Self::docker26).
    #[must_use]
    pub fn docker26_containerd() -> Option<Self> {
        Self::trixie(Images::Containerd)
    }

    fn trixie(images: Images) -> Option<Self> {
        let program = lanes::foreign_tool("dockerd26")?;
        let containerd = lanes::foreign_tool("containerd26")?;
        let folders = [&program, &containerd].map(|tool| tool.parent().expect("a path").to_owned());
        Self::dockerd(&program, &folders, images, &[])
    }

    /// Starts a `dockerd` that finds its helpers in these folders first, with these options more.
    fn dockerd(program: &Path, folders: &[PathBuf], images: Images, more: &[&str]) -> Option<Self> {
        if !lanes::root() {
            return None;
        }
        let folder = folder_in_memory();
        let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        let socket = format!("unix://{}", at("docker.sock"));
        let (data, exec, pid) = (at("data"), at("exec"), at("pid"));
        // The machine's own is not read.
        let config = at("daemon.json");
        std::fs::write(&config, images.config()).expect("a configuration can be written");
        // No network: an image FROM scratch runs nothing.
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = folders.iter().cloned().chain(std::env::split_paths(&path));
        let path = std::env::join_paths(path).expect("folders without a colon");
        let path = format!("PATH={}", path.to_string_lossy());
        let command = [
            "env",
            &path,
            &*program.to_string_lossy(),
            "--data-root",
            &data,
            "--exec-root",
            &exec,
            "--pidfile",
            &pid,
            "--host",
            &socket,
            "--config-file",
            &config,
            "--bridge=none",
            "--iptables=false",
            "--ip6tables=false",
        ];
        // It says so of each of its addresses, in any order.
        let addresses = 1 + more.iter().filter(|option| **option == "--host").count();
        let heard = std::cell::Cell::new(0);
        let (server, ()) = Server::start(&[&command[..], more].concat(), |line| {
            heard.set(heard.get() + usize::from(line.contains("API listen on")));
            (heard.get() == addresses).then_some(())
        });
        Some(Self {
            server,
            socket,
            _folder: folder,
        })
    }

    /// Starts podman's service, or `None` after the test was skipped.
    #[must_use]
    pub fn podman() -> Option<Self> {
        let program = lanes::tool("podman")?;
        if !lanes::root() {
            return None;
        }
        let folder = folder_in_memory();
        let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        let socket = format!("unix://{}", at("podman.sock"));
        let (root, run, tmp) = (at("root"), at("run"), at("tmp"));
        let command = [
            &*program.to_string_lossy(),
            "--root",
            &root,
            "--runroot",
            &run,
            "--tmpdir",
            &tmp,
            "--storage-driver=vfs",
            "--log-level=info",
            "system",
            "service",
            "--time=0",
            &socket,
        ];
        let (server, ()) = Server::start(&command, |line| {
            line.contains("API service listening").then_some(())
        });
        Some(Self {
            server,
            socket,
            _folder: folder,
        })
    }

    /// `unix:///…/engine.sock`, as in `DOCKER_HOST`.
    #[must_use]
    pub fn socket(&self) -> &str {
        &self.socket
    }

    /// The images that it shows: the names of each by its id. What only another image is made of is not shown.
    ///
    /// # Panics
    ///
    /// When it does not answer.
    #[must_use]
    pub fn images(&self) -> BTreeMap<String, Vec<String>> {
        let path = self.socket.strip_prefix("unix://").expect("a socket");
        let mut stream = UnixStream::connect(path).expect("the engine listens");
        // HTTP/1.0: the answer ends with the connection.
        stream
            .write_all(b"GET /v1.40/images/json HTTP/1.0\r\nHost: engine\r\n\r\n")
            .expect("the engine reads");
        let mut answer = String::new();
        stream
            .read_to_string(&mut answer)
            .expect("the engine answers");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let images: Vec<Value> = serde_json::from_str(body).expect("a list of images");
        let one = |image: &Value| {
            let names = image["RepoTags"].as_array().cloned().unwrap_or_default();
            let names = names
                .iter()
                .filter_map(|name| Some(name.as_str()?.to_owned()));
            let named = names.filter(|name| !name.starts_with("<none>")).collect();
            (image["Id"].as_str().expect("an id").to_owned(), named)
        };
        images.iter().map(one).collect()
    }
}
