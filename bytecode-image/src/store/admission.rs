//! Admissions: what was proven about a digest once, for one policy: `<signed>/<policy>`, both in hex, in a folder of this
//! host that is no part of any store.
//!
//! A record is worth as much as a signature, and nobody signed it. A store may come from elsewhere (a stick, an archive,
//! another user's folder) with whatever its owner put in; this folder is only this host's and this user's. A record that
//! somebody else could have written is not read.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};

use super::write::NewFile;
use super::{Store, StoreAction, StoreError};
use crate::digest::Digest;
use crate::folder::{self, Folder, Unsafe};
use crate::verify::{
    Algorithm, Covered, Format, LogEntry, NotCounted, Place, Proof, Signer, TimeSource, TrustedTime,
};

/// Longest record, in bytes: 64 KiB. Common ones have 700 bytes; a subject is at most as long as a certificate.
const MAX_RECORD_BYTES: u64 = 64 << 10;

/// Number of the records' form.
const FORM: u32 = 2;

/// Who else than its owner may write a file: group and others.
const OTHERS_WRITE: u32 = 0o022;

/// That what was signed was admitted: proof (which names the digest), policy and time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// Id of the policy that was satisfied ([`Policy::id`](crate::verify::Policy::id)).
    pub policy: Digest,
    /// What was proven.
    pub proof: Proof,
    /// When it was.
    pub at: Timestamp,
}

impl Store {
    /// The same store, with the folder where this host keeps admissions. Without one none is kept, and every use looks
    /// at the signatures.
    #[must_use]
    pub fn with_admissions(mut self, dir: impl Into<PathBuf>) -> Self {
        self.admissions = Some(dir.into());
        self
    }

    /// The admission of a digest that was signed (of an index or a manifest) for a policy. A record that cannot be
    /// read, or that another user could have written, is none.
    pub fn admission(&self, signed: Digest, policy: Digest) -> Option<Admission> {
        let folder = Folder::find(self.admissions.as_ref()?).ok()??;
        let folder = folder.folder(&signed.hex()).ok()??;
        folder.check_owner().ok()?;
        let file = folder.file(&policy.hex()).ok()??;
        let found = file.metadata().ok()?;
        if found.uid() != geteuid().as_raw() || found.mode() & OTHERS_WRITE != 0 {
            return None;
        }
        let bytes = folder::read(&file, MAX_RECORD_BYTES).ok()?;
        let admission = Record::read(&bytes)?;
        // A file that was renamed or copied by hand says nothing about another digest.
        (admission.proof.covered.digest() == signed && admission.policy == policy)
            .then_some(admission)
    }

    /// Keeps an admission, where there is a folder for them.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] when it cannot be written.
    pub fn admit(&self, admission: &Admission) -> Result<(), StoreError> {
        let Some(dir) = &self.admissions else {
            return Ok(());
        };
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source: io::Error| match Unsafe::in_error(&source) {
                Some(_) => StoreError::io(StoreAction::Change, &path, source),
                None => StoreError::io(StoreAction::Write, &path, source),
            }
        };
        let all = Folder::make(dir).map_err(failed(dir))?;
        all.check_owner().map_err(failed(dir))?;
        let signed = admission.proof.covered.digest().hex();
        let folder = all.make_folder(&signed);
        let folder = Arc::new(folder.map_err(failed(&all.join(&signed)))?);
        let name = admission.policy.hex();
        let bytes = serde_json::to_vec(&Record::of(admission));
        let bytes = bytes.map_err(|error| failed(&folder.join(&name))(error.into()))?;
        // Not waited for: one that is lost is found again by looking at the signatures.
        NewFile::new(&folder, &bytes)?.place(&folder, &name)
    }

    /// Removes the admissions of digests that the store does not have any more. Those that another store of this user
    /// has lose theirs too: their signatures are looked at again.
    pub(super) fn forget_admissions(&self) {
        let folder = self.admissions.as_deref().map(Folder::find);
        let Some(Ok(Some(folder))) = folder else {
            return;
        };
        for name in folder.folders().into_iter().flatten() {
            let digest = Digest::parse(&format!("sha256:{name}"));
            // What another tool put there stays.
            if digest.is_ok_and(|digest| matches!(self.has(digest), Ok(false))) {
                // One that stays is about nothing.
                if let Err(error) = remove(&folder, &name) {
                    log::debug!("{}: {error}", folder.join(&name).display());
                }
            }
        }
    }
}

/// Removes the admissions of one digest.
fn remove(all: &Folder, name: &str) -> io::Result<()> {
    all.check_owner()?;
    let Some(folder) = all.folder(name)? else {
        return Ok(());
    };
    folder.check_owner()?;
    for record in folder.files()? {
        folder.remove(&record)?;
    }
    all.remove_folder(name)
}

/// An admission on disk.
#[derive(Serialize, Deserialize)]
struct Record {
    form: u32,
    policy: String,
    admitted_at: String,
    signer: SignerRecord,
    covers: CoveredRecord,
    signature: PlaceRecord,
    times: Vec<TimeRecord>,
    log: Option<LogRecord>,
    not_counted: Vec<NotCountedRecord>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SignerRecord {
    Key {
        fingerprint: String,
        algorithm: String,
    },
    Identity {
        issuer: String,
        subject: String,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum CoveredRecord {
    Index(String),
    Manifest(String),
}

#[derive(Serialize, Deserialize)]
struct PlaceRecord {
    manifest: String,
    layer: usize,
    bundle: bool,
}

#[derive(Serialize, Deserialize)]
struct TimeRecord {
    at: String,
    by_log: bool,
}

#[derive(Serialize, Deserialize)]
struct LogRecord {
    index: u64,
    log: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum NotCountedRecord {
    UnknownLog(String),
    UnsupportedEntry(String),
    Future,
    UnusualScheme,
    UnknownAuthority,
    Certificate,
}

impl Record {
    fn of(admission: &Admission) -> Self {
        let proof = &admission.proof;
        Self {
            form: FORM,
            policy: admission.policy.to_string(),
            admitted_at: admission.at.to_string(),
            signer: match &proof.signer {
                Signer::Key {
                    fingerprint,
                    algorithm,
                } => SignerRecord::Key {
                    fingerprint: fingerprint.to_string(),
                    algorithm: algorithm.to_string(),
                },
                Signer::Identity { issuer, subject } => SignerRecord::Identity {
                    issuer: issuer.clone(),
                    subject: subject.clone(),
                },
            },
            covers: match proof.covered {
                Covered::Index(digest) => CoveredRecord::Index(digest.to_string()),
                Covered::Manifest(digest) => CoveredRecord::Manifest(digest.to_string()),
            },
            signature: PlaceRecord {
                manifest: proof.place.manifest.to_string(),
                layer: proof.place.layer,
                bundle: proof.place.format == Format::Bundle,
            },
            times: proof
                .times
                .iter()
                .map(|time| TimeRecord {
                    at: time.at.to_string(),
                    by_log: time.source == TimeSource::Log,
                })
                .collect(),
            log: proof.log.as_ref().map(|entry| LogRecord {
                index: entry.index,
                log: entry.log.clone(),
            }),
            not_counted: proof
                .not_counted
                .iter()
                .map(|what| match what {
                    NotCounted::UnknownLog { id } => NotCountedRecord::UnknownLog(id.clone()),
                    NotCounted::UnsupportedEntry { kind } => {
                        NotCountedRecord::UnsupportedEntry(kind.clone())
                    }
                    NotCounted::Future => NotCountedRecord::Future,
                    NotCounted::UnusualScheme => NotCountedRecord::UnusualScheme,
                    NotCounted::UnknownAuthority => NotCountedRecord::UnknownAuthority,
                    NotCounted::Certificate => NotCountedRecord::Certificate,
                })
                .collect(),
        }
    }

    fn read(bytes: &[u8]) -> Option<Admission> {
        let record: Self = serde_json::from_slice(bytes).ok()?;
        if record.form != FORM {
            return None;
        }
        let digest = |text: &str| Digest::parse(text).ok();
        let mut times = Vec::new();
        for time in &record.times {
            times.push(TrustedTime {
                at: time.at.parse().ok()?,
                source: if time.by_log {
                    TimeSource::Log
                } else {
                    TimeSource::Authority
                },
            });
        }
        Some(Admission {
            policy: digest(&record.policy)?,
            at: record.admitted_at.parse().ok()?,
            proof: Proof {
                signer: match record.signer {
                    SignerRecord::Key {
                        fingerprint,
                        algorithm,
                    } => Signer::Key {
                        fingerprint: digest(&fingerprint)?,
                        algorithm: Algorithm::ALL
                            .into_iter()
                            .find(|known| known.to_string() == algorithm)?,
                    },
                    SignerRecord::Identity { issuer, subject } => {
                        Signer::Identity { issuer, subject }
                    }
                },
                covered: match record.covers {
                    CoveredRecord::Index(index) => Covered::Index(digest(&index)?),
                    CoveredRecord::Manifest(manifest) => Covered::Manifest(digest(&manifest)?),
                },
                place: Place {
                    manifest: digest(&record.signature.manifest)?,
                    layer: record.signature.layer,
                    format: if record.signature.bundle {
                        Format::Bundle
                    } else {
                        Format::SimpleSigning
                    },
                },
                times,
                log: record.log.map(|entry| LogEntry {
                    index: entry.index,
                    log: entry.log,
                }),
                not_counted: record
                    .not_counted
                    .into_iter()
                    .map(|what| match what {
                        NotCountedRecord::UnknownLog(id) => NotCounted::UnknownLog { id },
                        NotCountedRecord::UnsupportedEntry(kind) => {
                            NotCounted::UnsupportedEntry { kind }
                        }
                        NotCountedRecord::Future => NotCounted::Future,
                        NotCountedRecord::UnusualScheme => NotCounted::UnusualScheme,
                        NotCountedRecord::UnknownAuthority => NotCounted::UnknownAuthority,
                        NotCountedRecord::Certificate => NotCounted::Certificate,
                    })
                    .collect(),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;

    fn admissions() -> [Admission; 2] {
        let [manifest, policy, index, signature] =
            [b"m", b"p", b"i", b"s"].map(|bytes| Digest::of(bytes));
        let at = Timestamp::from_second(1_790_000_000).unwrap();
        let keyed = Admission {
            policy,
            at,
            proof: Proof {
                signer: Signer::Key {
                    fingerprint: index,
                    algorithm: Algorithm::EcdsaP384,
                },
                covered: Covered::Index(index),
                place: Place {
                    manifest: signature,
                    layer: 3,
                    format: Format::SimpleSigning,
                },
                times: Vec::new(),
                log: None,
                not_counted: vec![
                    NotCounted::UnknownLog {
                        id: "00".to_owned(),
                    },
                    NotCounted::UnsupportedEntry {
                        kind: "dsse 0.0.2".to_owned(),
                    },
                    NotCounted::Future,
                    NotCounted::UnusualScheme,
                    NotCounted::UnknownAuthority,
                    NotCounted::Certificate,
                ],
            },
        };
        let mut keyless = keyed.clone();
        keyless.policy = signature;
        keyless.proof = Proof {
            signer: Signer::Identity {
                issuer: "https://issuer.test".to_owned(),
                subject: "a \"subject\"\n".to_owned(),
            },
            covered: Covered::Manifest(manifest),
            place: Place {
                manifest: signature,
                layer: 0,
                format: Format::Bundle,
            },
            times: [TimeSource::Log, TimeSource::Authority]
                .map(|source| TrustedTime { at, source })
                .into(),
            log: Some(LogEntry {
                index: u64::MAX,
                log: "https://log.test".to_owned(),
            }),
            not_counted: Vec::new(),
        };
        [keyed, keyless]
    }

    #[test]
    fn what_is_kept_is_what_was_proven() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("store"));
        let [keyed, keyless] = admissions();
        let signed = |admission: &Admission| admission.proof.covered.digest();
        // Nowhere to keep it.
        store.admit(&keyed).unwrap();
        assert_eq!(store.admission(signed(&keyed), keyed.policy), None);

        let store = store.with_admissions(folder.path().join("admitted"));
        assert_eq!(store.admission(signed(&keyed), keyed.policy), None);
        store.admit(&keyed).unwrap();
        store.admit(&keyless).unwrap();
        for admission in [&keyed, &keyless] {
            let found = store.admission(signed(admission), admission.policy);
            assert_eq!(found.as_ref(), Some(admission));
        }
        assert_eq!(store.admission(keyed.policy, keyed.policy), None);
        assert!(!store.dir().exists());

        // Nothing in the store has that digest.
        store.forget_admissions();
        assert_eq!(store.admission(signed(&keyed), keyed.policy), None);
    }

    #[test]
    fn records_that_are_none() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("store")).with_admissions(folder.path());
        let [admission, other] = admissions();
        let signed = admission.proof.covered.digest();
        store.admit(&admission).unwrap();
        let dir = folder.path().join(signed.hex());
        let path = dir.join(admission.policy.hex());
        let good = fs::read_to_string(&path).unwrap();
        // Another policy's record under this policy's name, and another digest's.
        fs::copy(&path, dir.join(other.policy.hex())).unwrap();
        assert_eq!(store.admission(signed, other.policy), None);
        let elsewhere = folder.path().join(other.policy.hex());
        fs::create_dir(&elsewhere).unwrap();
        fs::copy(&path, elsewhere.join(admission.policy.hex())).unwrap();
        assert_eq!(store.admission(other.policy, admission.policy), None);
        for bad in [
            String::new(),
            "{}".to_owned(),
            good.replace("\"form\":2", "\"form\":1"),
            good.replace("ECDSA P-384", "ECDSA P-1"),
            good[..good.len() - 1].to_owned(),
            format!("{good}{}", " ".repeat(MAX_RECORD_BYTES as usize)),
        ] {
            fs::write(&path, &bad).unwrap();
            assert_eq!(store.admission(signed, admission.policy), None, "{bad}");
        }
        fs::write(&path, good).unwrap();
        for (mode, counts) in [(0o600, true), (0o644, true), (0o620, false), (0o602, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let found = store.admission(signed, admission.policy);
            assert_eq!(found.is_some(), counts, "{mode:o}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        if geteuid().is_root() {
            chown(&path, Some(1), None).unwrap();
            assert_eq!(store.admission(signed, admission.policy), None);
        }
    }

    #[test]
    fn links_in_the_folder_of_admissions_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (all, outside) = (
            folder.path().join("admitted"),
            folder.path().join("outside"),
        );
        let store = Store::open(folder.path().join("store")).with_admissions(&all);
        let [admission, other] = admissions();
        let signed = admission.proof.covered.digest();
        store.admit(&admission).unwrap();
        fs::rename(all.join(signed.hex()), &outside).unwrap();
        symlink(&outside, all.join(signed.hex())).unwrap();
        assert_eq!(store.admission(signed, admission.policy), None);
        let mut again = other.clone();
        again.proof.covered = Covered::Manifest(signed);
        let error = store.admit(&again).unwrap_err();
        assert!(error.to_string().starts_with("cannot change "), "{error}");
        store.forget_admissions();
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);

        // A record that is a link.
        fs::remove_file(all.join(signed.hex())).unwrap();
        fs::create_dir(all.join(signed.hex())).unwrap();
        let name = admission.policy.hex();
        symlink(outside.join(&name), all.join(signed.hex()).join(&name)).unwrap();
        assert_eq!(store.admission(signed, admission.policy), None);
        // What has another name than a digest is none of ours.
        fs::create_dir(all.join("notes")).unwrap();
        store.forget_admissions();
        assert!(all.join("notes").exists());

        if geteuid().is_root() {
            chown(&all, Some(65_534), None).unwrap();
            assert!(store.admit(&other).is_err());
        }
    }
}
