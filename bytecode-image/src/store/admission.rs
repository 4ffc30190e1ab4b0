//! Admissions: what was proven about an image once, for one policy. `.bpfman/admitted/<manifest>/<policy>`, both in hex.
//!
//! An admission is worth something only for that manifest and that policy. Who can write it can write the blobs, the
//! configuration and the keys as well, so it is not signed.

use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::write::make_dir;
use super::{Store, StoreAction, StoreError};
use crate::digest::Digest;
use crate::verify::{
    Algorithm, Covered, Format, LogEntry, NotCounted, Place, Proof, Signer, TimeSource, TrustedTime,
};

/// Longest record, in bytes: 64 KiB. Common ones have 700 bytes; a subject is at most as long as a certificate.
const MAX_RECORD_BYTES: u64 = 64 << 10;

/// Number of the records' form.
const FORM: u32 = 1;

/// That an image was admitted: digest, policy, proof and time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// The manifest of the image's platform.
    pub manifest: Digest,
    /// Id of the policy that was satisfied ([`Policy::id`](crate::verify::Policy::id)).
    pub policy: Digest,
    /// What was proven.
    pub proof: Proof,
    /// When it was.
    pub at: Timestamp,
}

impl Store {
    /// The admission of a manifest for a policy. A record that cannot be read is none.
    pub fn admission(&self, manifest: Digest, policy: Digest) -> Option<Admission> {
        let file = fs::File::open(self.admission_dir(manifest).join(policy.hex())).ok()?;
        let mut bytes = Vec::new();
        let read = file.take(MAX_RECORD_BYTES + 1).read_to_end(&mut bytes);
        if read.ok()? as u64 > MAX_RECORD_BYTES {
            return None;
        }
        let admission = Record::read(&bytes)?;
        // A file that was renamed or copied by hand says nothing about another image.
        (admission.manifest == manifest && admission.policy == policy).then_some(admission)
    }

    /// Keeps an admission.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] when it cannot be written.
    pub fn admit(&self, admission: &Admission) -> Result<(), StoreError> {
        let dir = self.admission_dir(admission.manifest);
        make_dir(&dir).map_err(|source| StoreError::io(StoreAction::Make, &dir, source))?;
        let path = dir.join(admission.policy.hex());
        let failed = |source| StoreError::io(StoreAction::Write, &path, source);
        let bytes =
            serde_json::to_vec(&Record::of(admission)).map_err(|error| failed(error.into()))?;
        let writer = self.writer()?;
        let mut file = writer.blob()?;
        file.write_all(&bytes).map_err(failed)?;
        // Not waited for: one that is lost is found again by looking at the signatures.
        file.place(&path)
    }

    /// Removes the admissions of manifests that the store does not have any more.
    pub(super) fn forget_admissions(&self) {
        let dirs = fs::read_dir(self.own_dir().join("admitted"));
        for dir in dirs.into_iter().flatten().flatten() {
            let name = dir.file_name();
            if !self.blob_dir().join(name).exists() {
                // One that stays is about nothing.
                let _ = fs::remove_dir_all(dir.path());
            }
        }
    }

    fn admission_dir(&self, manifest: Digest) -> PathBuf {
        self.own_dir().join("admitted").join(manifest.hex())
    }
}

/// An admission on disk.
#[derive(Serialize, Deserialize)]
struct Record {
    form: u32,
    manifest: String,
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
    UnusualScheme,
    UnknownAuthority,
}

impl Record {
    fn of(admission: &Admission) -> Self {
        let proof = &admission.proof;
        Self {
            form: FORM,
            manifest: admission.manifest.to_string(),
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
                    NotCounted::UnusualScheme => NotCountedRecord::UnusualScheme,
                    NotCounted::UnknownAuthority => NotCountedRecord::UnknownAuthority,
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
            manifest: digest(&record.manifest)?,
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
                        NotCountedRecord::UnusualScheme => NotCounted::UnusualScheme,
                        NotCountedRecord::UnknownAuthority => NotCounted::UnknownAuthority,
                    })
                    .collect(),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admissions() -> [Admission; 2] {
        let [manifest, policy, index, signature] =
            [b"m", b"p", b"i", b"s"].map(|bytes| Digest::of(bytes));
        let at = Timestamp::from_second(1_790_000_000).unwrap();
        let keyed = Admission {
            manifest,
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
                    NotCounted::UnusualScheme,
                    NotCounted::UnknownAuthority,
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
        assert_eq!(store.admission(keyed.manifest, keyed.policy), None);
        store.admit(&keyed).unwrap();
        store.admit(&keyless).unwrap();
        for admission in [&keyed, &keyless] {
            let found = store.admission(admission.manifest, admission.policy);
            assert_eq!(found.as_ref(), Some(admission));
        }
        assert_eq!(store.admission(keyed.policy, keyed.policy), None);

        // Nothing in the store has that digest.
        store.forget_admissions();
        assert_eq!(store.admission(keyed.manifest, keyed.policy), None);
    }

    #[test]
    fn records_that_are_none() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path());
        let [admission, other] = admissions();
        store.admit(&admission).unwrap();
        let dir = store.admission_dir(admission.manifest);
        let path = dir.join(admission.policy.hex());
        let good = fs::read_to_string(&path).unwrap();
        // Another policy's record under this policy's name.
        fs::copy(&path, dir.join(other.policy.hex())).unwrap();
        assert_eq!(store.admission(other.manifest, other.policy), None);
        for bad in [
            String::new(),
            "{}".to_owned(),
            good.replace("\"form\":1", "\"form\":2"),
            good.replace("ECDSA P-384", "ECDSA P-1"),
            good[..good.len() - 1].to_owned(),
            format!("{good}{}", " ".repeat(MAX_RECORD_BYTES as usize)),
        ] {
            fs::write(&path, &bad).unwrap();
            assert_eq!(
                store.admission(admission.manifest, admission.policy),
                None,
                "{bad}"
            );
        }
        fs::write(&path, good).unwrap();
        assert!(
            store
                .admission(admission.manifest, admission.policy)
                .is_some()
        );
    }
}
