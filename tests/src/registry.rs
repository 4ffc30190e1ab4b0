//! The real `docker-registry`, on a free loopback port, with its storage in a folder of its own.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::lanes;
use crate::server::{Server, folder_in_memory};
use crate::tls::{Pair, Tls};

/// A running registry. It and its storage are gone when the value is dropped.
#[derive(Debug)]
pub struct Registry {
    server: Server,
    address: String,
    folder: TempDir,
    tls: Option<Tls>,
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
        // bcrypt of `secret`, at its least cost.
        let line = "builder:$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n";
        Self::launch(|folder| guarded(folder, line))
    }

    /// Starts one that speaks TLS with a certificate of a CA of its own ([`Self::ca`]), and wants the user `tester` with
    /// the password `s3cr3t`.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start), and when openssl fails.
    #[must_use]
    pub fn start_secure() -> Option<Self> {
        let tls = Tls::make()?;
        // bcrypt of `s3cr3t`.
        let line = "tester:$2b$05$abcdefghijklmnopqrstuu9Avu/WgbsK7g7xfCY1X3pdjsTgxqQLS\n";
        let mut registry = Self::launch(|folder| {
            let (server, users) = (served_by(&tls.server()), guarded(folder, line));
            format!("  tls: {{ {server} }}\n{users}")
        })?;
        registry.tls = Some(tls);
        Some(registry)
    }

    /// Starts one that speaks TLS with clients that have a certificate of its CA ([`Self::tls`]), and with no other.
    ///
    /// # Panics
    ///
    /// As [`start_secure`](Self::start_secure).
    #[must_use]
    pub fn start_mutual() -> Option<Self> {
        let tls = Tls::make()?;
        let server = served_by(&tls.server());
        let ca = tls.ca().display().to_string();
        let mut registry = Self::launch(|_| format!("  tls: {{ {server}, clientcas: [{ca}] }}\n"))?;
        registry.tls = Some(tls);
        Some(registry)
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
            tls: None,
        })
    }

    /// The certificates of a registry that speaks TLS.
    ///
    /// # Panics
    ///
    /// When it does not.
    #[must_use]
    pub fn tls(&self) -> &Tls {
        self.tls.as_ref().expect("a registry that speaks TLS")
    }

    /// The certificate of the CA of [`Self::start_secure`], PEM.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.tls().ca()
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

/// The part of its configuration that asks for this user.
fn guarded(folder: &Path, line: &str) -> String {
    let users = folder.join("users");
    std::fs::write(&users, line).expect("its users can be written");
    let users = users.display();
    format!("auth: {{ htpasswd: {{ realm: test, path: {users} }} }}\n")
}

/// The part of its configuration that names its certificate.
fn served_by(pair: &Pair) -> String {
    let (certificate, key) = (pair.certificate.display(), pair.key.display());
    format!("certificate: {certificate}, key: {key}")
}
