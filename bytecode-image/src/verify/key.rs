//! Public keys of policies, and signatures by them.

use std::fmt;
use std::path::Path;

use sigstore_verify::crypto::{
    Error as CryptoError, KeyAlgorithm, SigningScheme, VerificationKey, validate_raw_public_key,
    verify_signature,
};
use sigstore_verify::types::{DerPublicKey, Error as EncodingError, SignatureBytes};

use super::limits::MAX_KEY_BYTES;
use crate::digest::Digest;

/// A public key that signatures are checked with: ECDSA P-256 or P-384, Ed25519, or RSA of 2048 to 8192 bits.
#[derive(Clone)]
pub struct PublicKey {
    der: DerPublicKey,
    algorithm: Algorithm,
    fingerprint: Digest,
}

/// The kinds of keys that cosign signs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// ECDSA on NIST P-256, over SHA-256.
    EcdsaP256,
    /// ECDSA on NIST P-384, over SHA-384 (cosign 3) or SHA-256 (cosign 2).
    EcdsaP384,
    /// Ed25519 (RFC 8032, without prehash).
    Ed25519,
    /// RSA, PKCS #1 v1.5 or PSS, over SHA-256, SHA-384 or SHA-512.
    Rsa,
}

/// Why a file is not a public key that can be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Longer than [`MAX_KEY_BYTES`].
    #[error("the key has {found} bytes: at most {MAX_KEY_BYTES} are read")]
    TooLong {
        /// Bytes found.
        found: usize,
    },
    /// No PEM block, or bytes that are no text.
    #[error("there is no PEM block: expected `-----BEGIN PUBLIC KEY-----`")]
    NotPem {
        /// What it looks like instead.
        form: Option<OtherForm>,
    },
    /// Several blocks: which of them counts would be a guess.
    #[error("there are {found} PEM blocks: expected one public key a file")]
    Several {
        /// Blocks found.
        found: usize,
    },
    /// A private key. The signer keeps it; a verifier never needs it.
    #[error(
        "this is a private key (`{label}`): expected the public one, as `cosign public-key --key FILE` prints it"
    )]
    Private {
        /// What the block is called.
        label: String,
    },
    /// A PEM block of something else.
    #[error("the PEM block is a `{label}`: expected `PUBLIC KEY` or `RSA PUBLIC KEY`")]
    Label {
        /// What the block is called, shortened.
        label: String,
    },
    /// A PEM block with a body that is none.
    #[error("the PEM block cannot be decoded")]
    Body(#[source] EncodingError),
    /// A key of a kind, size or shape that is not checked with.
    #[error(
        "the key cannot be used: expected ECDSA P-256 or P-384, Ed25519, or RSA of 2048 to 8192 bits"
    )]
    Unsupported(#[source] CryptoError),
    /// A key of a kind that the libraries know and cosign does not sign with.
    #[error("the key is of another kind: expected ECDSA P-256 or P-384, Ed25519 or RSA")]
    Kind,
}

/// Another form of a public key, which a tool can turn into PEM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OtherForm {
    /// ASN.1 in DER.
    Der,
    /// OpenSSH's.
    Ssh,
}

impl OtherForm {
    fn guess(bytes: &[u8]) -> Option<Self> {
        let ssh: [&[u8]; 4] = [b"ssh-", b"ecdsa-sha2-", b"sk-", b"---- BEGIN SSH2"];
        match bytes {
            // A SEQUENCE longer than 127 bytes, or the algorithm inside a shorter one.
            [0x30, 0x81..=0x83, ..] | [0x30, _, 0x30, ..] => Some(Self::Der),
            _ if ssh.iter().any(|prefix| bytes.starts_with(prefix)) => Some(Self::Ssh),
            _ => None,
        }
    }
}

impl KeyError {
    /// The command that turns `file` into a public key, where there is one.
    pub fn hint(&self, file: &Path) -> Option<String> {
        let file = file.display();
        Some(match self {
            Self::NotPem {
                form: Some(OtherForm::Der),
            } => {
                format!("convert it: openssl pkey -pubin -inform DER -in {file} -out KEY.pem")
            }
            Self::NotPem {
                form: Some(OtherForm::Ssh),
            } => {
                format!("convert it: ssh-keygen -e -m PKCS8 -f {file} > KEY.pem")
            }
            Self::Label { label } if label.ends_with("CERTIFICATE") => {
                format!(
                    "extract the key of the certificate: openssl x509 -in {file} -noout -pubkey > KEY.pem"
                )
            }
            Self::Private { label } if label.contains("COSIGN") || label.contains("SIGSTORE") => {
                format!("print the public key: cosign public-key --key {file} > KEY.pem")
            }
            Self::Private { label } if label.contains("OPENSSH") => {
                format!("print the public key: ssh-keygen -e -m PKCS8 -f {file} > KEY.pem")
            }
            Self::Private { .. } => {
                format!("print the public key: openssl pkey -in {file} -pubout -out KEY.pem")
            }
            Self::Several { .. } => {
                "put each key into a file of its own, and name all of them".to_owned()
            }
            _ => return None,
        })
    }
}

impl PublicKey {
    /// Reads a PEM file: `-----BEGIN PUBLIC KEY-----` (SubjectPublicKeyInfo of RFC 5280), which cosign writes to
    /// `cosign.pub`, or `-----BEGIN RSA PUBLIC KEY-----` (PKCS #1, RFC 8017, A.1.1).
    ///
    /// # Errors
    ///
    /// When there is not exactly one such block, or the key is of a kind or size that is not used.
    pub fn from_pem(bytes: &[u8]) -> Result<Self, KeyError> {
        const BEGIN: &str = "-----BEGIN ";
        if bytes.len() > MAX_KEY_BYTES {
            return Err(KeyError::TooLong { found: bytes.len() });
        }
        let not_pem = || KeyError::NotPem {
            form: OtherForm::guess(bytes),
        };
        let text = std::str::from_utf8(bytes).map_err(|_| not_pem())?;
        match text.matches(BEGIN).count() {
            0 => return Err(not_pem()),
            1 => {}
            found => return Err(KeyError::Several { found }),
        }
        let label = text
            .split_once(BEGIN)
            .and_then(|(_, rest)| rest.split_once("-----"))
            .map_or("", |(label, _)| label);
        let shown = || label.chars().filter(|c| !c.is_control()).take(40).collect();
        if label.ends_with("PRIVATE KEY") {
            return Err(KeyError::Private { label: shown() });
        }
        let der = match label {
            "PUBLIC KEY" => DerPublicKey::from_pem(text).map_err(KeyError::Body)?,
            PKCS1 => {
                let renamed = text.replace(PKCS1, "PUBLIC KEY");
                let key = DerPublicKey::from_pem(&renamed).map_err(KeyError::Body)?;
                DerPublicKey::new(rsa_spki(key.as_bytes()))
            }
            _ => return Err(KeyError::Label { label: shown() }),
        };
        let algorithm = match KeyAlgorithm::from_spki(&der).map_err(KeyError::Unsupported)? {
            KeyAlgorithm::EcdsaP256 => Algorithm::EcdsaP256,
            KeyAlgorithm::EcdsaP384 => Algorithm::EcdsaP384,
            KeyAlgorithm::Ed25519 => Algorithm::Ed25519,
            KeyAlgorithm::Rsa => Algorithm::Rsa,
            _ => return Err(KeyError::Kind),
        };
        if let Some(scheme) = algorithm.schemes().first() {
            let key = VerificationKey::from_spki_with_scheme(&der, *scheme)
                .map_err(KeyError::Unsupported)?;
            validate_raw_public_key(*scheme, key.as_bytes()).map_err(KeyError::Unsupported)?;
        }
        let fingerprint = Digest::of(der.as_bytes());
        Ok(Self {
            der,
            algorithm,
            fingerprint,
        })
    }

    /// What kind of key it is.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The sha256 of the key's SubjectPublicKeyInfo in DER: what
    /// `openssl pkey -pubin -in FILE -outform DER | sha256sum` prints.
    pub fn fingerprint(&self) -> Digest {
        self.fingerprint
    }

    pub(super) fn der(&self) -> &DerPublicKey {
        &self.der
    }

    /// How `signature` over exactly these bytes was made, when it was made with this key.
    pub(super) fn verifies(
        &self,
        message: &[u8],
        signature: &SignatureBytes,
    ) -> Option<SigningScheme> {
        let good = |scheme: &SigningScheme| {
            verify_signature(&self.der, message, signature, *scheme).is_ok()
        };
        self.algorithm.schemes().iter().copied().find(good)
    }
}

/// The label of an RSA key by PKCS #1.
const PKCS1: &str = "RSA PUBLIC KEY";

/// The SubjectPublicKeyInfo of an RSA key by PKCS #1: its algorithm is `rsaEncryption` with NULL (RFC 3279, 2.3.1).
fn rsa_spki(key: &[u8]) -> Vec<u8> {
    const ALGORITHM: [u8; 15] = [
        0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
    ];
    let mut bits = vec![0];
    bits.extend_from_slice(key);
    let mut parts = ALGORITHM.to_vec();
    parts.extend(element(0x03, &bits));
    element(0x30, &parts)
}

/// An ASN.1 element in DER.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length: Vec<u8> = (content.len() as u64)
        .to_be_bytes()
        .into_iter()
        .skip_while(|byte| *byte == 0)
        .collect();
    let mut out = vec![tag];
    match (length.as_slice(), u8::try_from(length.len())) {
        ([], _) => out.push(0),
        ([short @ 0..=0x7f], _) => out.push(*short),
        (long, count) => {
            out.push(0x80 | count.unwrap_or_default());
            out.extend_from_slice(long);
        }
    }
    out.extend_from_slice(content);
    out
}

impl Algorithm {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::EcdsaP256, Self::EcdsaP384, Self::Ed25519, Self::Rsa];

    /// The ways of signing with such a key; the first is the one that sigstore's libraries take by default.
    fn schemes(self) -> &'static [SigningScheme] {
        match self {
            Self::EcdsaP256 => &[SigningScheme::EcdsaP256Sha256],
            Self::EcdsaP384 => &[
                SigningScheme::EcdsaP384Sha384,
                SigningScheme::EcdsaP384Sha256,
            ],
            Self::Ed25519 => &[SigningScheme::Ed25519],
            Self::Rsa => &[
                SigningScheme::RsaPkcs1Sha256,
                SigningScheme::RsaPssSha256,
                SigningScheme::RsaPkcs1Sha384,
                SigningScheme::RsaPssSha384,
                SigningScheme::RsaPkcs1Sha512,
                SigningScheme::RsaPssSha512,
            ],
        }
    }

    /// Whether it is the way that sigstore's libraries take by default for such a key.
    pub(super) fn is_default(self, scheme: SigningScheme) -> bool {
        self.schemes().first() == Some(&scheme)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EcdsaP256 => "ECDSA P-256",
            Self::EcdsaP384 => "ECDSA P-384",
            Self::Ed25519 => "Ed25519",
            Self::Rsa => "RSA",
        })
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({} {})", self.algorithm, self.fingerprint)
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl Eq for PublicKey {}
