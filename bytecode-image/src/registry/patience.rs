//! How long registries are waited for, and what is tried again: pure, but for the one sleep.

use std::error::Error as StdError;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::{Method, StatusCode};

use crate::registry::Reason;

/// How long a connection may take to be made: 10 s, enough for a second SYN to be answered from the other side of the world.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long nothing may come, neither an answer nor the next bytes of one: 30 s, what busy registries take at worst.
pub const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a pull may take in all: 80 s, so that whoever waits 90 s for the command hears why it failed.
pub const PULL_DEADLINE: Duration = Duration::from_secs(80);

/// How long the signatures of an image are waited for that no policy covers: 5 s. They are fetched for policies to come,
/// and the image is used without them.
pub const OPTIONAL_DEADLINE: Duration = Duration::from_secs(5);

/// How often a request is sent at most: 4 times, within some 2 s where the registry does not say how long to wait.
pub const MAX_ATTEMPTS: u32 = 4;

/// How often a connection is tried that is not made within [`CONNECT_TIMEOUT`]: twice, as each takes that long.
pub const MAX_SLOW_CONNECTIONS: u32 = 2;

/// Longest `Retry-After` that is waited for: 30 s. A registry that wants longer is not asked again.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(30);

/// The pause before the second attempt; doubled before each later one.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// Turns the pause that is due into the one that is made: for tests, which wait for nothing.
pub type Pauses = Arc<dyn Fn(Duration) -> Duration + Send + Sync>;

/// How patient requests are. [`Default`] has the documented times.
#[derive(Clone)]
pub struct Patience {
    /// As [`CONNECT_TIMEOUT`].
    pub connect: Duration,
    /// As [`READ_TIMEOUT`].
    pub read: Duration,
    /// As [`PULL_DEADLINE`].
    pub deadline: Duration,
    /// As [`OPTIONAL_DEADLINE`].
    pub optional: Duration,
    /// As [`MAX_ATTEMPTS`].
    pub attempts: u32,
    /// `None`: pauses are made as they are due.
    pub pauses: Option<Pauses>,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: CONNECT_TIMEOUT,
            read: READ_TIMEOUT,
            deadline: PULL_DEADLINE,
            optional: OPTIONAL_DEADLINE,
            attempts: MAX_ATTEMPTS,
            pauses: None,
        }
    }
}

impl fmt::Debug for Patience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Patience")
            .field("connect", &self.connect)
            .field("read", &self.read)
            .field("deadline", &self.deadline)
            .field("optional", &self.optional)
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}

impl Patience {
    /// The pause before a request is sent again that was answered so; `None`: it is not sent again.
    ///
    /// `attempt` counts from 1. 429 and 503 may say how long to wait.
    pub(super) fn after_answer(
        &self,
        attempt: u32,
        status: StatusCode,
        retry_after: Option<Duration>,
    ) -> Option<Duration> {
        // 501 and 505 stay what they are.
        let again = matches!(status.as_u16(), 429 | 500 | 502 | 503 | 504);
        if !again || attempt >= self.attempts {
            return None;
        }
        match retry_after {
            Some(pause) if pause > MAX_RETRY_AFTER => None,
            Some(pause) => Some(pause),
            None => Some(pause_after(attempt)),
        }
    }

    /// The pause before a request is sent again that got no answer; `None`: it is not sent again.
    pub(super) fn after_failure(
        &self,
        attempt: u32,
        method: &Method,
        reason: &Reason,
    ) -> Option<Duration> {
        let again = match reason {
            Reason::Connect(error) if error.is_timeout() => attempt < MAX_SLOW_CONNECTIONS,
            Reason::Connect(error) => !is_tls(error),
            // The registry may have done what it was asked for.
            Reason::Transfer(_) => *method != Method::POST && is_reset(reason),
            _ => false,
        };
        (again && attempt < self.attempts).then(|| pause_after(attempt))
    }

    /// Waits.
    pub(super) async fn pause(&self, due: Duration) {
        let pause = self.pauses.as_ref().map_or(due, |pauses| pauses(due));
        tokio::time::sleep(pause).await;
    }
}

/// Doubled each time; between half and all of it, so that many hosts do not come back at once.
fn pause_after(attempt: u32) -> Duration {
    let whole = FIRST_PAUSE.saturating_mul(1 << (attempt - 1).min(8));
    let random = u32::try_from(RandomState::new().hash_one(attempt) % 1000).unwrap_or_default();
    whole / 2 + whole * random / 2000
}

/// A `Retry-After` header: seconds, or a date (RFC 9110, 10.2.3).
pub(super) fn retry_after(header: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = header.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(header.trim()).ok()?;
    Some(Duration::try_from(date.timestamp().duration_since(now)).unwrap_or_default())
}

/// Whether a connection broke that had worked: reset, or closed before the answer or its body was whole.
pub(super) fn is_reset(reason: &Reason) -> bool {
    let Reason::Transfer(error) = reason else {
        return false;
    };
    causes(error).any(|cause| {
        if let Some(error) = cause.downcast_ref::<hyper::Error>() {
            return error.is_incomplete_message() || error.is_canceled();
        }
        cause.downcast_ref::<io::Error>().is_some_and(|error| {
            matches!(
                error.kind(),
                io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::BrokenPipe
                    | io::ErrorKind::UnexpectedEof
            )
        })
    })
}

/// Whether it was TLS that failed: a handshake does not get better by being repeated.
pub(super) fn is_tls(error: &reqwest::Error) -> bool {
    tls_error(error).is_some()
}

/// What the TLS library says, where it was TLS that failed.
pub(super) fn tls_error(error: &reqwest::Error) -> Option<&rustls::Error> {
    causes(error).find_map(|cause| {
        // An I/O error's own `source` passes over what it wraps.
        let mut cause = cause;
        while let Some(inner) = cause
            .downcast_ref::<io::Error>()
            .and_then(|error| error.get_ref())
        {
            cause = inner;
        }
        cause.downcast_ref()
    })
}

/// What the system says, where it was the system that failed.
pub(super) fn io_error(error: &reqwest::Error) -> Option<io::ErrorKind> {
    causes(error).find_map(|cause| cause.downcast_ref::<io::Error>().map(io::Error::kind))
}

fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| {
        let error: &'a (dyn StdError + 'static) = *error;
        error.source()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_tried_again() {
        let patience = Patience::default();
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let after = |attempt, status, wait| {
            let status = StatusCode::from_u16(status).unwrap();
            patience.after_answer(attempt, status, wait)
        };
        for status in [429, 500, 502, 503, 504] {
            assert!(after(1, status, None).is_some(), "{status}");
            assert_eq!(after(4, status, None), None, "{status}");
            assert_eq!(after(3, status, seconds(7)), seconds(7), "{status}");
            assert_eq!(after(1, status, seconds(31)), None, "{status}");
        }
        for status in [200, 206, 400, 401, 403, 404, 408, 416, 501, 505] {
            assert_eq!(after(1, status, seconds(1)), None, "{status}");
        }
    }

    #[test]
    fn pauses_grow() {
        for (attempt, longest) in [(1, 250), (2, 500), (3, 1000), (40, 64_000)] {
            let pause = pause_after(attempt);
            let longest = Duration::from_millis(longest);
            assert!(
                pause >= longest / 2 && pause <= longest,
                "{attempt}: {pause:?}"
            );
        }
    }

    #[test]
    fn how_long_a_registry_wants_to_be_left_alone() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let cases = [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("Fri, 02 Jan 2026 03:04:15 GMT", Some(10)),
            ("Fri, 02 Jan 2026 03:04:00 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
            ("", None),
        ];
        for (header, expected) in cases {
            let found = retry_after(header, now);
            assert_eq!(found, expected.map(Duration::from_secs), "{header}");
        }
    }
}
