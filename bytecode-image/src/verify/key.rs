//! Public keys of policies, and signatures by them.

use std::fmt;

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
    NotPem,
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
    #[error("the PEM block is a `{label}`: expected `PUBLIC KEY`")]
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

impl PublicKey {
    /// Reads a PEM file (`-----BEGIN PUBLIC KEY-----`, SubjectPublicKeyInfo of RFC 5280): what cosign writes to
    /// `cosign.pub`.
    ///
    /// # Errors
    ///
    /// When there is not exactly one such block, or the key is of a kind or size that is not used.
    pub fn from_pem(bytes: &[u8]) -> Result<Self, KeyError> {
        const BEGIN: &str = "-----BEGIN ";
        if bytes.len() > MAX_KEY_BYTES {
            return Err(KeyError::TooLong { found: bytes.len() });
        }
        let text = std::str::from_utf8(bytes).map_err(|_| KeyError::NotPem)?;
        match text.matches(BEGIN).count() {
            0 => return Err(KeyError::NotPem),
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
        if label != "PUBLIC KEY" {
            return Err(KeyError::Label { label: shown() });
        }
        let der = DerPublicKey::from_pem(text).map_err(KeyError::Body)?;
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
