//! Blobs from another repository of the same registry (distribution-spec, "Mounting a blob from another repository").
//!
//! Asked for only where a repository is known: without `from` the specification lets a registry find one itself, but quay
//! answers 400 to that, and a blob of bytecode is hardly longer than a request.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use reqwest::{Method, Response, StatusCode, Url};

use crate::digest::Digest;
use crate::reference::Reference;
use crate::registry::auth::Access;
use crate::registry::client::{DIGEST_HEADER, check_digest_header};
use crate::registry::http::{Request, header};
use crate::registry::{Action, Client, Reason, RegistryError};
use crate::store::Pushed;

/// Where the blobs of one push may be mounted from.
pub(super) struct Sources {
    pushed: Pushed,
    /// Repositories that the registry mounts nothing from.
    refused: Mutex<BTreeSet<String>>,
}

/// What became of a mount.
pub(super) enum Mounted {
    /// The repository has the blob now.
    Here,
    /// It wants it here.
    Upload(Url),
    /// The upload has yet to be asked for.
    No,
}

impl Sources {
    pub(super) fn of(pushed: Pushed) -> Self {
        let refused = Mutex::default();
        Self { pushed, refused }
    }

    /// The repository of the same registry that got the blob last.
    fn find(&self, reference: &Reference, digest: Digest) -> Option<&str> {
        let from = self.pushed.elsewhere(reference, digest)?;
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        (!refused.contains(from)).then_some(from)
    }

    fn refuse(&self, from: &str) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.insert(from.to_owned());
    }
}

impl Client {
    /// Mounts a blob, where a repository is known that has it. A registry that does not begins an upload in the same answer;
    /// one that does not know what it is asked is asked no more.
    ///
    /// # Errors
    ///
    /// What a plain upload would end with too: no answer, or one that says that the registry is busy.
    pub(super) async fn mount(
        &self,
        action: &Action,
        reference: &Reference,
        digest: Digest,
        sources: &Sources,
    ) -> Result<Mounted, RegistryError> {
        let Some(from) = sources.find(reference, digest) else {
            return Ok(Mounted::No);
        };
        let mut url = self.url(action, reference, "blobs/uploads/")?;
        url.query_pairs_mut()
            .append_pair("mount", &digest.to_string())
            .append_pair("from", from);
        let access = Access::Mount(from.to_owned());
        let request = Request::new(Method::POST, url);
        let asked = self.request(action, reference, access, &request).await;
        let refused = match asked.and_then(|answer| self.mounted(action, &answer, digest)) {
            Ok(mounted) => return Ok(mounted),
            Err(error) => error,
        };
        // The next try of a blob must not end in the same way.
        sources.refuse(from);
        if is_of_uploads_too(&refused) {
            return Err(refused);
        }
        log::debug!("nothing is mounted from {from}: {}", refused.reason);
        Ok(Mounted::No)
    }

    /// What a registry made of a mount. One that says that it mounted something else has not got what was asked for.
    fn mounted(
        &self,
        action: &Action,
        answer: &Response,
        digest: Digest,
    ) -> Result<Mounted, RegistryError> {
        let refused = |reason| self.error(action, reason);
        match answer.status() {
            StatusCode::ACCEPTED => Ok(Mounted::Upload(self.location(action, answer)?)),
            StatusCode::CREATED => {
                check_digest_header(header(answer, DIGEST_HEADER), digest).map_err(refused)?;
                Ok(Mounted::Here)
            }
            status => Err(refused(Reason::Status {
                status: status.as_u16(),
                message: None,
            })),
        }
    }
}

/// Whether an upload is likely to fail with the same error. That no token is given for the other repository says nothing
/// about this one.
fn is_of_uploads_too(error: &RegistryError) -> bool {
    !matches!(error.action, Action::Token(_))
        && matches!(
            *error.reason,
            Reason::Connect(_)
                | Reason::Timeout(_)
                | Reason::Transfer(_)
                | Reason::Status {
                    status: 429 | 502 | 503 | 504,
                    ..
                }
        )
}
