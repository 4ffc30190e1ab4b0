//! Real container engines with data folders of their own, so that nothing of the machine's engines is touched.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::lanes;
use crate::server::{Server, folder_in_memory};

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
        Self::dockerd(&lanes::tool("dockerd")?, &[])
    }

    /// Starts the `dockerd` of Debian trixie (26) with its containerd, or `None` after the test was skipped.
    ///
    /// # Panics
    ///
    /// When a program's path has no folder.
    #[must_use]
    pub fn docker26() -> Option<Self> {
        let program = lanes::foreign_tool("dockerd26")?;
        let containerd = lanes::foreign_tool("containerd26")?;
        let folders = [&program, &containerd].map(|tool| tool.parent().expect("a path").to_owned());
        Self::dockerd(&program, &folders)
    }

    /// Starts a `dockerd` that finds its helpers in these folders first.
    fn dockerd(program: &Path, folders: &[PathBuf]) -> Option<Self> {
        if !lanes::root() {
            return None;
        }
        let folder = folder_in_memory();
        let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        let socket = format!("unix://{}", at("docker.sock"));
        let (data, exec, pid) = (at("data"), at("exec"), at("pid"));
        // No network: an image FROM scratch runs nothing. vfs: the folder may lie on any file system.
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
