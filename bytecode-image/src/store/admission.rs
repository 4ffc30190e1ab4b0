//! Admissions: what was proven about a digest once, for one policy: `<signed>/<policy>`, both in hex, in a folder of this
//! host that is no part of any store.
//!
//! A record is worth as much as a signature, and nobody signed it. A store may come from elsewhere (a stick, an archive,
//! another user's folder) with whatever its owner put in; this folder is only this host's and this user's. A record that
//! somebody else could have written is not read.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use jiff::Timestamp;
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};

use super::write::make_dir;
use super::{NewBlob, Store, StoreAction, StoreError};
use crate::digest::Digest;
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
        let file = fs::File::open(self.admission_dir(signed)?.join(policy.hex())).ok()?;
        let found = file.metadata().ok()?;
        if found.uid() != geteuid().as_raw() || found.mode() & OTHERS_WRITE != 0 {
            return None;
        }
        let mut bytes = Vec::new();
        let read = file.take(MAX_RECORD_BYTES + 1).read_to_end(&mut bytes);
        if read.ok()? as u64 > MAX_RECORD_BYTES {
            return None;
        }
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
        let Some(dir) = self.admission_dir(admission.proof.covered.digest()) else {
            return Ok(());
        };
        make_dir(&dir).map_err(|source| StoreError::io(StoreAction::Make, &dir, source))?;
        let path = dir.join(admission.policy.hex());
        let failed = |source| StoreError::io(StoreAction::Write, &path, source);
        let bytes =
            serde_json::to_vec(&Record::of(admission)).map_err(|error| failed(error.into()))?;
        let mut file = NewBlob::in_dir(&dir)?;
        file.write_all(&bytes).map_err(failed)?;
        // Not waited for: one that is lost is found again by looking at the signatures.
        file.place(&path)
    }

    /// Removes the admissions of digests that the store does not have any more. Those that another store of this user
    /// has lose theirs too: their signatures are looked at again.
    pub(super) fn forget_admissions(&self) {
        let dirs = self.admissions.as_ref().map(fs::read_dir);
        for dir in dirs.into_iter().flatten().flatten().flatten() {
            let name = dir.file_name();
            if !self.blob_dir().join(name).exists() {
                // One that stays is about nothing.
                let _ = fs::remove_dir_all(dir.path());
            }
        }
    }

    fn admission_dir(&self, signed: Digest) -> Option<PathBuf> {
        Some(self.admissions.as_ref()?.join(signed.hex()))
    }
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
    use std::os::unix::fs::PermissionsExt;

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
        let dir = store.admission_dir(signed).unwrap();
        let path = dir.join(admission.policy.hex());
        let good = fs::read_to_string(&path).unwrap();
        // Another policy's record under this policy's name, and another digest's.
        fs::copy(&path, dir.join(other.policy.hex())).unwrap();
        assert_eq!(store.admission(signed, other.policy), None);
        let elsewhere = store.admission_dir(other.policy).unwrap();
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
            std::os::unix::fs::chown(&path, Some(1), None).unwrap();
            assert_eq!(store.admission(signed, admission.policy), None);
        }
    }
}
