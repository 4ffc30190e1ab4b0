//! Real container engines with data folders of their own, so that nothing of the machine's engines is touched.

use tempfile::TempDir;

use crate::lanes;
use crate::server::Server;

/// A running engine. It and what it built are gone when the value is dropped.
#[derive(Debug)]
pub struct Engine {
    _server: Server,
    socket: String,
    // After the server, which still writes into it while it stops.
    _folder: TempDir,
}

impl Engine {
    /// Starts `dockerd`, or `None` after the test was skipped.
    #[must_use]
    pub fn docker() -> Option<Self> {
        let program = lanes::tool("dockerd")?;
        if !lanes::root() {
            return None;
        }
        let folder = TempDir::new().expect("a temporary folder can be made");
        let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        let socket = format!("unix://{}", at("docker.sock"));
        let (data, exec, pid) = (at("data"), at("exec"), at("pid"));
        // No network: an image FROM scratch runs nothing. vfs: the folder may lie on any file system.
        let command = [
            &*program.to_string_lossy(),
            "--data-root",
            &data,
            "--exec-root",
            &exec,
            "--pidfile",
            &pid,
            "--host",
            &socket,
            "--storage-driver=vfs",
            "--bridge=none",
            "--iptables=false",
            "--ip6tables=false",
        ];
        let (server, ()) = Server::start(&command, |line| {
            line.contains("API listen on").then_some(())
        });
        Some(Self {
            _server: server,
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
        let folder = TempDir::new().expect("a temporary folder can be made");
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
            _server: server,
            socket,
            _folder: folder,
        })
    }

    /// `unix:///…/engine.sock`, as in `DOCKER_HOST`.
    #[must_use]
    pub fn socket(&self) -> &str {
        &self.socket
    }
}
