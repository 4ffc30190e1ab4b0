//! Private CAs and client certificates: containers-certs.d(5), and docker's folder of the same form.
//!
//! One folder decides, the first that is there: `~/.config/containers/certs.d/<host[:port]>`, then
//! `/etc/containers/certs.d/…`, then `/etc/docker/certs.d/…`. In it `*.crt` are authorities, trusted beside the
//! system's; `NAME.cert` and `NAME.key` are a client's certificate and its key. All in the order of their names.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::host::environment::Environment;
use crate::host::file::{self, FileError};
use crate::reference::Reference;

/// Longest file of certificates that is read, in bytes: 1 MiB. The bundle of all public authorities has 220 KiB.
pub const MAX_CERTIFICATE_BYTES: u64 = 1 << 20;

/// Most certificate files of one registry: 64.
pub const MAX_CERTIFICATES: usize = 64;

/// What the host has for one registry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Certificates {
    /// Authorities to trust beside the system's.
    pub authorities: Vec<PemFile>,
    /// Certificates to show when the registry asks for one.
    pub clients: Vec<ClientPair>,
}

impl Certificates {
    /// Whether the host has none.
    pub fn is_empty(&self) -> bool {
        self.authorities.is_empty() && self.clients.is_empty()
    }
}

/// A PEM file with at least one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PemFile {
    /// The file, for messages.
    pub file: PathBuf,
    /// Its bytes.
    pub pem: Vec<u8>,
}

/// A client's certificate and key. `Debug` never shows the key.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientPair {
    /// `NAME.cert`.
    pub certificate: PemFile,
    /// `NAME.key`, for messages.
    pub key_file: PathBuf,
    /// Its bytes.
    pub key_pem: Vec<u8>,
}

impl fmt::Debug for ClientPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientPair")
            .field("certificate", &self.certificate.file)
            .field("key_file", &self.key_file)
            .finish_non_exhaustive()
    }
}

/// Why the certificates of a registry cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificatesError {
    /// A file or folder cannot be read.
    #[error("reading the certificates of a registry")]
    File(#[from] FileError),
    /// A certificate without its key.
    #[error(
        "client certificate {} has no key: expected {} beside it; an authority's certificate is named *.crt",
        certificate.display(), key.display()
    )]
    NoKey {
        /// What is there.
        certificate: PathBuf,
        /// What is missing.
        key: PathBuf,
    },
    /// A key without its certificate.
    #[error("client key {} has no certificate: expected {} beside it", key.display(), certificate.display())]
    NoCertificate {
        /// What is there.
        key: PathBuf,
        /// What is missing.
        certificate: PathBuf,
    },
    /// A file without a PEM block of its kind.
    #[error("{} has no {kind} in it: expected the PEM form, -----BEGIN …{kind}-----", file.display())]
    NotPem {
        /// The file.
        file: PathBuf,
        /// `CERTIFICATE` or `PRIVATE KEY`.
        kind: &'static str,
    },
}

/// The certificates for the registry of `reference`; none where there is no folder for it.
///
/// # Errors
///
/// When a file cannot be read, is not PEM, or half of a client's pair is missing. A folder that this user may not look
/// into is none.
pub fn read(
    environment: &Environment,
    reference: &Reference,
) -> Result<Certificates, CertificatesError> {
    for folder in environment.certificates(reference.registry()) {
        match file::list(&folder, &["crt", "cert", "key"], MAX_CERTIFICATES) {
            Ok(Some(files)) => return gather(&files),
            Ok(None) => {}
            // As containers tools do it: root's folder says nothing to another user, who may not need it.
            Err(error) if error.is_denied() => {
                log::info!("{error}: passed over, as this user may not look into it");
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Certificates::default())
}

/// The folder that decides about a registry; where there is none, the one that its certificates belong in.
pub(crate) fn folder(environment: &Environment, reference: &Reference) -> PathBuf {
    let folders = environment.certificates(reference.registry());
    let there = folders.iter().find(|folder| folder.is_dir());
    // Of the user, then of the system.
    let usual = match environment.uid {
        0 => folders
            .iter()
            .find(|folder| folder.starts_with(environment.root.join("etc"))),
        _ => folders.first(),
    };
    there.or(usual).cloned().unwrap_or_default()
}

fn gather(files: &[PathBuf]) -> Result<Certificates, CertificatesError> {
    let mut certificates = Certificates::default();
    for path in files {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => certificates.authorities.push(certificate(path)?),
            Some("cert") => {
                let key = path.with_extension("key");
                if !files.contains(&key) {
                    return Err(CertificatesError::NoKey {
                        certificate: path.clone(),
                        key,
                    });
                }
                let key_pem = pem(&key, "PRIVATE KEY")?;
                certificates.clients.push(ClientPair {
                    certificate: certificate(path)?,
                    key_file: key,
                    key_pem,
                });
            }
            _ => {
                let certificate = path.with_extension("cert");
                if !files.contains(&certificate) {
                    return Err(CertificatesError::NoCertificate {
                        key: path.clone(),
                        certificate,
                    });
                }
            }
        }
    }
    Ok(certificates)
}

fn certificate(file: &Path) -> Result<PemFile, CertificatesError> {
    Ok(PemFile {
        file: file.to_owned(),
        pem: pem(file, "CERTIFICATE")?,
    })
}

/// The bytes of a PEM file (RFC 7468) with a block whose label ends in `kind` (`EC PRIVATE KEY`, …). The block itself
/// is for the TLS library to read.
fn pem(path: &Path, kind: &'static str) -> Result<Vec<u8>, CertificatesError> {
    let bytes = file::read_named(path, MAX_CERTIFICATE_BYTES)?;
    let end = format!("{kind}-----");
    let begins = |line: &[u8]| {
        line.starts_with(b"-----BEGIN ") && line.trim_ascii_end().ends_with(end.as_bytes())
    };
    if bytes.split(|byte| *byte == b'\n').any(begins) {
        Ok(bytes)
    } else {
        Err(CertificatesError::NotPem {
            file: path.to_owned(),
            kind,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CERTIFICATE: &str =
        "text before\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    const KEY: &str = "-----BEGIN EC PRIVATE KEY-----\nS3CR3T\n-----END EC PRIVATE KEY-----\n";

    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Environment) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let environment = Environment {
            root: root.path().to_owned(),
            home: Some(root.path().join("root")),
            ..Environment::default()
        };
        (root, environment)
    }

    fn certificates(files: &[(&str, &str)], reference: &str) -> Result<Certificates, String> {
        let (root, environment) = host(files);
        read(&environment, &reference.parse().unwrap()).map_err(|error| {
            error
                .to_string()
                .replace(&root.path().display().to_string(), "")
        })
    }

    /// The example of containers-certs.d(5).
    #[test]
    fn the_manual_s_example() {
        let files = [
            (
                "etc/containers/certs.d/my-registry.com:5000/client.cert",
                CERTIFICATE,
            ),
            (
                "etc/containers/certs.d/my-registry.com:5000/client.key",
                KEY,
            ),
            (
                "etc/containers/certs.d/my-registry.com:5000/ca.crt",
                CERTIFICATE,
            ),
            (
                "etc/containers/certs.d/my-registry.com:5000/README",
                "ignored",
            ),
        ];
        let found = certificates(&files, "my-registry.com:5000/a/b:1").unwrap();
        assert_eq!(found.authorities.len(), 1);
        assert_eq!(found.authorities[0].pem, CERTIFICATE.as_bytes());
        assert_eq!(found.clients.len(), 1);
        assert_eq!(found.clients[0].key_pem, KEY.as_bytes());
        let shown = format!("{found:?}");
        assert!(
            shown.contains("client.key") && !shown.contains("S3CR3T"),
            "{shown}"
        );
        for other in ["my-registry.com/a", "my-registry.com:5001/a", "quay.io/a"] {
            assert_eq!(
                certificates(&files, other).unwrap(),
                Certificates::default(),
                "{other}"
            );
        }
    }

    #[test]
    fn the_first_folder_decides_alone() {
        let user = "root/.config/containers/certs.d/r.io/user.crt";
        let containers = "etc/containers/certs.d/r.io/containers.crt";
        let docker = "etc/docker/certs.d/r.io/docker.crt";
        let cases: [(&[&str], &str); 3] = [
            (&[user, containers, docker], "user"),
            (&[containers, docker], "containers"),
            (&[docker], "docker"),
        ];
        for (files, expected) in cases {
            let files: Vec<_> = files.iter().map(|file| (*file, CERTIFICATE)).collect();
            let found = certificates(&files, "r.io/a").unwrap();
            let names: Vec<_> = found
                .authorities
                .iter()
                .map(|file| file.file.file_stem().unwrap())
                .collect();
            assert_eq!(names, [expected]);
        }
        let ipv6 = certificates(
            &[("etc/docker/certs.d/[fd00::2]:5000/a.crt", CERTIFICATE)],
            "[fd00::2]:5000/a",
        );
        assert_eq!(ipv6.unwrap().authorities.len(), 1);
    }

    #[test]
    fn halves_and_other_files_are_named() {
        let at = "etc/containers/certs.d/r.io";
        let path = |name: &str| format!("{at}/{name}");
        let cases = [
            (
                path("a.cert"),
                CERTIFICATE,
                "client certificate /etc/containers/certs.d/r.io/a.cert has no key: expected /etc/containers/certs.d/r.io/a.key",
            ),
            (
                path("a.key"),
                KEY,
                "client key /etc/containers/certs.d/r.io/a.key has no certificate: expected /etc/containers/certs.d/r.io/a.cert",
            ),
            (
                path("a.crt"),
                "",
                "/etc/containers/certs.d/r.io/a.crt has no CERTIFICATE in it",
            ),
            (
                path("a.crt"),
                KEY,
                "/etc/containers/certs.d/r.io/a.crt has no CERTIFICATE in it",
            ),
        ];
        for (file, text, expected) in cases {
            let error = certificates(&[(&file, text)], "r.io/a").unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
        let swapped = [(&*path("a.cert"), KEY), (&*path("a.key"), CERTIFICATE)];
        let error = certificates(&swapped, "r.io/a").unwrap_err();
        assert!(
            error.starts_with("/etc/containers/certs.d/r.io/a.key has no PRIVATE KEY in it"),
            "{error}"
        );
    }
}
