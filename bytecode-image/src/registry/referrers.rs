//! What lies beside an image in its repository: documents under tags of signing tools, and lists of referrers
//! (distribution-spec 1.1, "Listing Referrers"). None of it is believed here: it is capped and hashed.

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue, LINK};
use reqwest::{Method, Response, Url};

use super::client::{Client, DIGEST_HEADER, check_digest_header};
use super::http::{Request, body, header};
use super::{Action, Reason, RegistryError};
use crate::digest::{Digest, VerifiedBytes};
use crate::limits::MAX_MANIFEST_BYTES;
use crate::manifest;
use crate::reference::Reference;
use crate::registry::auth::Access;

/// Most pages of one list of referrers: 8. Registries send 50 or more on each.
pub const MAX_REFERRER_PAGES: usize = 8;

/// A manifest or index whose meaning was not looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawDocument {
    /// Digest of the bytes.
    pub digest: Digest,
    /// By the answer's `Content-Type`.
    pub media_type: String,
    /// As it came.
    pub bytes: VerifiedBytes,
}

impl Client {
    /// Fetches what a tag of the reference's repository names; `None` when there is no such tag.
    ///
    /// # Errors
    ///
    /// When the registry does not answer as it should, or what came is longer than
    /// [`MAX_MANIFEST_BYTES`].
    pub async fn tagged(
        &self,
        reference: &Reference,
        tag: &str,
    ) -> Result<Option<RawDocument>, RegistryError> {
        match self.raw(reference, tag, None).await {
            Err(error) if matches!(*error.reason, Reason::NotFound { .. }) => Ok(None),
            found => found.map(Some),
        }
    }

    /// Fetches the document with this digest from the reference's repository.
    ///
    /// # Errors
    ///
    /// As [`tagged`](Self::tagged), and when what came has another digest.
    pub async fn raw_document(
        &self,
        reference: &Reference,
        digest: Digest,
    ) -> Result<RawDocument, RegistryError> {
        self.raw(reference, &digest.to_string(), Some(digest)).await
    }

    /// The list of a digest's referrers, page by page, as it came; `None` when the registry has no such list. One that
    /// has none of any digest is asked once.
    ///
    /// # Errors
    ///
    /// When the registry does not answer as it should, or a page is longer than [`MAX_MANIFEST_BYTES`].
    pub async fn referrers(
        &self,
        reference: &Reference,
        digest: Digest,
    ) -> Result<Option<Vec<Vec<u8>>>, RegistryError> {
        let known = self.has_referrers.lock().await;
        if *known == Some(false) {
            return Ok(None);
        }
        // Who finds out holds on to it.
        let mut finding = known.is_none().then_some(known);
        let action = Action::ListReferrers(reference.with_digest(digest).to_string());
        let mut url = self.url(&action, reference, &format!("referrers/{digest}"))?;
        let mut pages = Vec::new();
        for _ in 0..MAX_REFERRER_PAGES {
            let request = Request::new(Method::GET, url.clone()).header(
                ACCEPT,
                HeaderValue::from_static(oci_client::manifest::OCI_IMAGE_INDEX_MEDIA_TYPE),
            );
            let answer = self
                .request(&action, reference, Access::Pull, &request)
                .await;
            let response = match answer {
                Ok(response) => response,
                // Registries without the API say so in several ways. 404 is the one for it, whatever the digest
                // (distribution-spec 1.1, "Listing Referrers"): it is not asked about another one.
                Err(error) if pages.is_empty() && is_refusal(&error.reason) => {
                    if let Some(mut known) = finding
                        && matches!(*error.reason, Reason::NotFound { .. })
                    {
                        *known = Some(false);
                    }
                    return Ok(None);
                }
                Err(error) => return Err(error),
            };
            if let Some(mut known) = finding.take() {
                *known = Some(true);
            }
            let next = next_page(&response);
            let bytes = body(response, MAX_MANIFEST_BYTES)
                .await
                .map_err(|reason| self.error(&action, reason))?;
            pages.push(bytes);
            match next {
                Some(next) if self.is_ours(&next) => url = next,
                _ => break,
            }
        }
        Ok(Some(pages))
    }

    /// Fetches a blob into memory, by its digest.
    ///
    /// # Errors
    ///
    /// When it is not there, is longer than `limit` bytes, or has another digest.
    pub async fn small_blob(
        &self,
        reference: &Reference,
        digest: Digest,
        limit: u64,
    ) -> Result<VerifiedBytes, RegistryError> {
        let action = Action::FetchBlob(digest, reference.name());
        let refused = |reason| self.error(&action, reason);
        let url = self.url(&action, reference, &format!("blobs/{digest}"))?;
        let request = Request::new(Method::GET, url);
        let response = self
            .request(&action, reference, Access::Pull, &request)
            .await?;
        let bytes = body(response, limit).await.map_err(refused)?;
        VerifiedBytes::with_digest(bytes, digest).map_err(|found| {
            let expected = digest;
            refused(Reason::Digest { expected, found })
        })
    }

    async fn raw(
        &self,
        reference: &Reference,
        name: &str,
        digest: Option<Digest>,
    ) -> Result<RawDocument, RegistryError> {
        let whole = match digest {
            Some(digest) => reference.with_digest(digest).to_string(),
            None => format!("{}:{name}", reference.name()),
        };
        let action = Action::FetchManifest(whole);
        let refused = |reason| self.error(&action, reason);
        let url = self.url(&action, reference, &format!("manifests/{name}"))?;
        let mut request = Request::new(Method::GET, url);
        for media_type in manifest::MEDIA_TYPES {
            request = request.header(ACCEPT, HeaderValue::from_static(media_type));
        }
        let response = self
            .request(&action, reference, Access::Pull, &request)
            .await?;
        let media_type = header(&response, CONTENT_TYPE.as_str())
            .unwrap_or_default()
            .to_owned();
        let named = header(&response, DIGEST_HEADER).map(str::to_owned);
        let bytes = body(response, MAX_MANIFEST_BYTES).await.map_err(refused)?;
        let bytes = VerifiedBytes::hash(bytes);
        let found = bytes.digest();
        if let Some(expected) = digest
            && expected != found
        {
            return Err(refused(Reason::Digest { expected, found }));
        }
        check_digest_header(named.as_deref(), found).map_err(refused)?;
        Ok(RawDocument {
            digest: found,
            media_type,
            bytes,
        })
    }
}

/// Whether an answer means that a registry does not have a route: anything but success, a busy registry, a broken
/// transfer or missing credentials.
fn is_refusal(reason: &Reason) -> bool {
    match reason {
        Reason::NotFound { .. } => true,
        Reason::Status { status, .. } => (400..429).contains(status) || *status == 501,
        _ => false,
    }
}

/// Where the next page is (RFC 8288): `Link: <…>; rel="next"`.
fn next_page(response: &Response) -> Option<Url> {
    let link = header(response, LINK.as_str())?;
    response.url().join(next_link(link)?).ok()
}

fn next_link(link: &str) -> Option<&str> {
    let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    let is_next = parameters.split([';', ',']).any(|parameter| {
        let (name, value) = parameter.trim().split_once('=').unwrap_or_default();
        name.eq_ignore_ascii_case("rel") && value.trim_matches('"') == "next"
    });
    is_next.then_some(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_the_next_page() {
        for (link, expected) in [
            (
                r#"</v2/a/referrers/x?n=2>; rel="next""#,
                Some("/v2/a/referrers/x?n=2"),
            ),
            (
                "<https://b.example/y>;rel=next",
                Some("https://b.example/y"),
            ),
            (r#"</x>; rel="prev""#, None),
            ("</x>", None),
            ("next", None),
            ("", None),
        ] {
            assert_eq!(next_link(link), expected, "{link}");
        }
    }

    #[test]
    fn what_means_that_there_is_no_such_list() {
        let status = |status| Reason::Status {
            status,
            message: None,
        };
        for (reason, expected) in [
            (Reason::NotFound { message: None }, true),
            (status(405), true),
            (status(400), true),
            (status(501), true),
            (status(429), false),
            (status(500), false),
            (status(503), false),
            (Reason::Denied { message: None }, false),
        ] {
            assert_eq!(is_refusal(&reason), expected, "{reason}");
        }
    }
}
