//! A CA of a test's own, with a certificate for a server on loopback and one for a client, made by openssl.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::lanes;

/// The files, in a folder that goes with the value.
#[derive(Debug)]
pub struct Tls {
    folder: TempDir,
}

/// A certificate and its key, PEM files.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Tls {
    /// Makes the files, or gives `None` after the test was skipped for want of openssl.
    ///
    /// # Panics
    ///
    /// When openssl fails.
    #[must_use]
    pub fn make() -> Option<Self> {
        let openssl = lanes::tool("openssl")?;
        let folder = TempDir::new().expect("a temporary folder can be made");
        let tls = Self { folder };
        make(&openssl, &tls.pair("ca"), &["-subj", "/CN=CA of a test"]);
        let ca = tls.pair("ca");
        let by = [
            Path::new("-CA"),
            &ca.certificate,
            Path::new("-CAkey"),
            &ca.key,
        ];
        let by: Vec<&str> = by.iter().filter_map(|path| path.to_str()).collect();
        let names = "subjectAltName=IP:127.0.0.1,DNS:localhost";
        let leaf = [
            "-addext",
            names,
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ];
        for (name, subject) in [
            ("server", "/CN=registry of a test"),
            ("client", "/CN=client of a test"),
        ] {
            let more = [&by[..], &leaf, &["-subj", subject]].concat();
            make(&openssl, &tls.pair(name), &more);
        }
        Some(tls)
    }

    /// The CA's certificate, PEM.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.pair("ca").certificate
    }

    /// For a server on loopback.
    #[must_use]
    pub fn server(&self) -> Pair {
        self.pair("server")
    }

    /// For a client.
    #[must_use]
    pub fn client(&self) -> Pair {
        self.pair("client")
    }

    /// For a server on loopback: a certificate that is its own authority, as `openssl req -x509` makes it.
    ///
    /// # Panics
    ///
    /// When openssl fails.
    #[must_use]
    pub fn self_signed(&self, names: &str, more: &[&str]) -> Pair {
        let pair = self.pair("self");
        let openssl = lanes::tool("openssl").expect("openssl was there before");
        let names = format!("subjectAltName={names}");
        let given = [&["-subj", "/CN=self", "-addext", &names], more].concat();
        make(&openssl, &pair, &given);
        pair
    }

    /// A certificate of X.509 version 1 by the CA, as `openssl x509 -req` makes it without a file of extensions.
    ///
    /// # Panics
    ///
    /// When openssl fails.
    #[must_use]
    pub fn version_1(&self, name: &str) -> Pair {
        let (pair, ca) = (self.pair(name), self.pair("ca"));
        let openssl = lanes::tool("openssl").expect("openssl was there before");
        let request = self.folder.path().join(format!("{name}.csr"));
        let run = |arguments: &[&std::ffi::OsStr]| {
            let output = Command::new(&openssl)
                .args(arguments)
                .output()
                .expect("openssl can be run");
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "openssl: {stderr}");
        };
        let path = |path: &'_ Path| path.as_os_str().to_owned();
        let word = |word: &str| std::ffi::OsString::from(word);
        let subject = format!("/CN={name}");
        let first = [
            word("req"),
            word("-newkey"),
            word("rsa:2048"),
            word("-nodes"),
            word("-subj"),
            word(&subject),
            word("-keyout"),
            path(&pair.key),
            word("-out"),
            path(&request),
        ];
        let second = [
            word("x509"),
            word("-req"),
            word("-days"),
            word("2"),
            word("-CAcreateserial"),
            word("-in"),
            path(&request),
            word("-CA"),
            path(&ca.certificate),
            word("-CAkey"),
            path(&ca.key),
            word("-out"),
            path(&pair.certificate),
        ];
        run(&first
            .iter()
            .map(std::ffi::OsString::as_os_str)
            .collect::<Vec<_>>());
        run(&second
            .iter()
            .map(std::ffi::OsString::as_os_str)
            .collect::<Vec<_>>());
        pair
    }

    fn pair(&self, name: &str) -> Pair {
        let path = |ending| self.folder.path().join(format!("{name}.{ending}"));
        Pair {
            certificate: path("crt"),
            key: path("key"),
        }
    }
}

/// A key and a certificate for two days, by itself where `more` names no CA.
fn make(openssl: &Path, pair: &Pair, more: &[&str]) {
    let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
    let output = Command::new(openssl)
        .args(["req", "-x509", "-nodes", "-days", "2"])
        .args(curve)
        .arg("-out")
        .arg(&pair.certificate)
        .arg("-keyout")
        .arg(&pair.key)
        .args(more)
        .output()
        .expect("openssl can be run");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl: {stderr}");
}
