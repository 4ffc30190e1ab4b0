//! The time of day by this host's clock, whatever that says.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// Now. A clock outside of the years that a [`Timestamp`] has (-9999 to 9999) counts as the end that is nearer, where
/// [`Timestamp::now`] would panic.
pub(crate) fn now() -> Timestamp {
    at(SystemTime::now())
}

fn at(time: SystemTime) -> Timestamp {
    let end = if time < UNIX_EPOCH {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    };
    Timestamp::try_from(time).unwrap_or(end)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn clock_of_any_year_is_taken() {
        let years = |count: u64| Duration::from_secs(count * 31_556_952);
        for (time, expected) in [
            (UNIX_EPOCH, Timestamp::UNIX_EPOCH),
            (UNIX_EPOCH + years(20_000), Timestamp::MAX),
            (UNIX_EPOCH - years(20_000), Timestamp::MIN),
        ] {
            assert_eq!(at(time), expected, "{time:?}");
        }
        assert!(at(UNIX_EPOCH - years(10)) < Timestamp::UNIX_EPOCH);
    }
}
