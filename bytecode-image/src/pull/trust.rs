//! What is asked of an image's signatures, and what came of it.

use crate::verify::{Proof, Signing, TrustRoot};

/// Who may have signed what, and how that is found out.
#[derive(Debug, Default)]
pub struct Trust {
    pub(super) signing: Signing,
    pub(super) root: TrustRoot,
    pub(super) anew: bool,
}

/// What is known about the signatures of an image that may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: they are not to be looked at (`verify_enabled = false`).
    NotLookedAt,
    /// Nothing: no policy covers the image, and such images may be used.
    NotCovered,
    /// One of them satisfies the policy that covers the image.
    Proven(Box<Proof>),
}

impl Trust {
    /// By these policies, with this trust root.
    pub fn new(signing: Signing, root: TrustRoot) -> Self {
        Self {
            signing,
            root,
            anew: false,
        }
    }

    /// Signatures are looked at again, even where an earlier admission would do.
    #[must_use]
    pub fn anew(mut self) -> Self {
        self.anew = true;
        self
    }

    /// Signatures are neither fetched nor looked at.
    pub fn unchecked() -> Self {
        Self::new(Signing::off(), TrustRoot::built_in())
    }

    /// The policies.
    pub fn signing(&self) -> &Signing {
        &self.signing
    }

    /// Whose certificates, logs and time stamps count.
    pub fn root(&self) -> &TrustRoot {
        &self.root
    }
}
