//! The real `docker-registry`, on a free loopback port, with its storage in a folder of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

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
        let openssl = lanes::tool("openssl")?;
        // bcrypt of `s3cr3t`.
        let line = "tester:$2b$05$abcdefghijklmnopqrstuu9Avu/WgbsK7g7xfCY1X3pdjsTgxqQLS\n";
        Self::launch(|folder| {
            let (cert, key) = certificate(&openssl, folder);
            format!(
                "  tls: {{ certificate: {cert}, key: {key} }}\n{}",
                guarded(folder, line)
            )
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

    /// The certificate of the CA of [`Self::start_secure`], PEM.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
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

/// A CA in `ca.crt`, and the paths of a certificate for loopback by it and of its key.
pub(crate) fn certificate(openssl: &Path, folder: &Path) -> (String, String) {
    let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let make = |name: &str, more: &[&str]| {
        let (certificate, key) = (path(&format!("{name}.crt")), path(&format!("{name}.key")));
        let output = Command::new(openssl)
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
            ])
            .args([
                "-nodes",
                "-days",
                "2",
                "-out",
                &certificate,
                "-keyout",
                &key,
            ])
            .args(more)
            .output()
            .expect("openssl can be run");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl: {stderr}");
        (certificate, key)
    };
    let (ca, ca_key) = make("ca", &["-subj", "/CN=CA of a test"]);
    let names = "subjectAltName=IP:127.0.0.1,DNS:localhost";
    let by = ["-CA", &ca, "-CAkey", &ca_key, "-addext", names];
    let leaf = [
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-subj",
        "/CN=registry of a test",
    ];
    make("server", &[&by[..], &leaf].concat())
}
