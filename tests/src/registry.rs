//! The real `docker-registry`, on a free loopback port, with its storage in a folder of its own.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::lanes;
use crate::server::{Server, folder_in_memory};

/// A running registry. It and its storage are gone when the value is dropped.
#[derive(Debug)]
pub struct Registry {
    server: Server,
    address: String,
    folder: TempDir,
}

impl Registry {
    /// Starts a registry, or `None` after the test was skipped because there is none on this machine.
    ///
    /// # Panics
    ///
    /// When it is there and does not start.
    #[must_use]
    pub fn start() -> Option<Self> {
        Self::launch(|_| String::new())
    }

    /// Starts a registry that wants the user `builder` with the password `secret` for everything.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    #[must_use]
    pub fn start_guarded() -> Option<Self> {
        Self::launch(|folder| {
            let users = folder.join("users");
            // bcrypt of `secret`, at its least cost.
            let line = "builder:$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n";
            std::fs::write(&users, line).expect("its users can be written");
            let users = users.display();
            format!("auth: {{ htpasswd: {{ realm: test, path: {users} }} }}\n")
        })
    }

    fn launch(more: impl FnOnce(&Path) -> String) -> Option<Self> {
        let program = lanes::tool("docker-registry")?;
        let folder = folder_in_memory();
        let more = more(folder.path());
        let config = folder.path().join("config.yml");
        let storage = folder.path().join("storage");
        let text = format!(
            "version: 0.1\nlog: {{ level: info }}\nstorage:\n  filesystem: {{ rootdirectory: {} }}\n  delete: {{ enabled: true }}\n\
             http:\n  addr: 127.0.0.1:0\n{more}",
            storage.display()
        );
        std::fs::write(&config, text).expect("its configuration can be written");
        let program = program.to_string_lossy();
        let config = config.to_string_lossy();
        // Port 0: the kernel picks a free one, and the registry's log names it.
        let (server, address) = Server::start(&[&program, "serve", &config], |line| {
            let (_, rest) = line.split_once("listening on ")?;
            let end = rest
                .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':'))
                .unwrap_or(rest.len());
            Some(rest[..end].to_owned())
        });
        Some(Self {
            server,
            address,
            folder,
        })
    }

    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> &str {
        self.address.rsplit(':').next().unwrap_or_default()
    }

    /// A reference in this registry.
    #[must_use]
    pub fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// The file of a blob (`sha256:…`), to be spoiled by a test.
    #[must_use]
    pub fn blob_file(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").expect("a sha256 digest");
        let blobs = self
            .folder
            .path()
            .join("storage/docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    }

    /// What the registry logged: one line a request.
    #[must_use]
    pub fn log(&self) -> String {
        self.server.log()
    }
}
