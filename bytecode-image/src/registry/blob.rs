//! Blobs: counted as they stream, taken up where they broke, hashed when they are whole.

use reqwest::header::{CONTENT_RANGE, HeaderValue, RANGE};
use reqwest::{Method, StatusCode};

use crate::digest::VerifiedBytes;
use crate::manifest::Descriptor;
use crate::progress::Progress;
use crate::reference::Reference;
use crate::registry::auth::Access;
use crate::registry::http::{Request, failed, header};
use crate::registry::patience::is_reset;
use crate::registry::{Action, Client, Reason, RegistryError};

impl Client {
    /// Fetches a blob into memory, at most as many bytes as its descriptor says. A transfer that breaks off is taken up
    /// where it broke; requests that get no answer and those that break off are counted together.
    ///
    /// # Errors
    ///
    /// When length or digest are not what the descriptor says, or the transfer breaks off.
    pub async fn blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        progress: &dyn Progress,
    ) -> Result<VerifiedBytes, RegistryError> {
        let action = Action::FetchBlob(descriptor.digest, reference.name());
        let mut transfer = BlobTransfer {
            expected: descriptor.size,
            bytes: Vec::new(),
            progress,
        };
        let mut attempt = 1;
        while let Err(error) = self
            .rest(&action, reference, descriptor, &mut transfer, &mut attempt)
            .await
        {
            // Only the end of the answer was lost, and there is nothing left to ask for.
            if is_reset(&error.reason) && transfer.done() == transfer.expected {
                break;
            }
            let again = is_reset(&error.reason).then(|| {
                self.patience()
                    .after_failure(attempt, &Method::GET, &error.reason)
            });
            let Some(pause) = again.flatten().filter(|pause| self.has_time(*pause)) else {
                return Err(error);
            };
            log::debug!(
                "{error}: it broke off after {} bytes; once more",
                transfer.done()
            );
            self.patience().pause(pause).await;
            attempt += 1;
        }
        let expected = descriptor.digest;
        VerifiedBytes::with_digest(transfer.bytes, expected)
            .map_err(|found| self.error(&action, Reason::Digest { expected, found }))
    }

    /// Fetches what is missing of a blob.
    async fn rest(
        &self,
        action: &Action,
        reference: &Reference,
        descriptor: &Descriptor,
        transfer: &mut BlobTransfer<'_>,
        attempt: &mut u32,
    ) -> Result<(), RegistryError> {
        let refused = |reason| self.error(action, reason);
        let url = self.url(action, reference, &format!("blobs/{}", descriptor.digest))?;
        let mut request = Request::new(Method::GET, url);
        if transfer.done() > 0
            && let Ok(range) = HeaderValue::from_str(&format!("bytes={}-", transfer.done()))
        {
            request = request.header(RANGE, range);
        }
        let mut response = self
            .counted(action, reference, Access::Pull, &request, attempt)
            .await?;
        // Bytes that came already, from a server that does not know ranges: they come again.
        let mut skipped = 0;
        let mut due = transfer.expected;
        if response.status() == StatusCode::PARTIAL_CONTENT {
            let begins = header(&response, CONTENT_RANGE.as_str()).and_then(range_start);
            if begins != Some(transfer.done()) {
                return Err(refused(Reason::Header {
                    name: "Content-Range",
                }));
            }
            due -= transfer.done();
        } else {
            skipped = transfer.done();
        }
        if let Some(found) = response.content_length()
            && found != due
        {
            return Err(refused(Reason::Length {
                expected: due,
                found,
            }));
        }
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| refused(failed(error)))?
        {
            let known = usize::try_from(skipped)
                .unwrap_or(usize::MAX)
                .min(chunk.len());
            skipped -= known as u64;
            let new = chunk.get(known..).unwrap_or_default();
            transfer.take(new).map_err(refused)?;
        }
        if transfer.done() != transfer.expected {
            return Err(refused(Reason::Length {
                expected: transfer.expected,
                found: transfer.done(),
            }));
        }
        Ok(())
    }
}

/// A blob on its way.
struct BlobTransfer<'a> {
    /// Bytes that the descriptor says.
    expected: u64,
    /// Those that came.
    bytes: Vec<u8>,
    progress: &'a dyn Progress,
}

impl BlobTransfer<'_> {
    /// How many bytes came.
    fn done(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Reason> {
        let found = self.done() + bytes.len() as u64;
        if found > self.expected {
            let expected = self.expected;
            return Err(Reason::Length { expected, found });
        }
        self.bytes.extend_from_slice(bytes);
        self.progress.advance(bytes.len() as u64);
        Ok(())
    }
}

/// Where a `Content-Range` begins: `bytes 10-99/100` (RFC 9110, 14.4).
fn range_start(header: &str) -> Option<u64> {
    let (begin, _) = header.trim().strip_prefix("bytes ")?.split_once('-')?;
    begin.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        assert_eq!(range_start("bytes 10-99/100"), Some(10));
        for text in ["", "bytes */100", "10-99/100", "bytes -5-9/10"] {
            assert_eq!(range_start(text), None, "{text}");
        }
    }
}
