//! Times: local in tables, UTC in JSON.
//!
//! The zone is read from `TZ` or `/etc/localtime` directly: a time zone database would be looked through for a name
//! that no output shows.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Where zone files lie, for a `TZ` that names one.
const ZONE_FILES: &str = "/usr/share/zoneinfo";
/// The zone of this machine.
const LOCAL_ZONE: &str = "/etc/localtime";

/// `%Y-%m-%dT%H:%M:%S%z` in the zone of this process; UTC where it is not to be found.
pub(super) fn local(time: SystemTime) -> Option<String> {
    let zone = zone(std::env::var("TZ").ok().as_deref(), |path| {
        std::fs::read(path).ok()
    });
    in_zone(time, zone)
}

/// RFC 3339, UTC, whole seconds.
pub(super) fn rfc3339(time: SystemTime) -> Option<String> {
    let seconds = Timestamp::try_from(time).ok()?.as_second();
    Some(Timestamp::from_second(seconds).ok()?.to_string())
}

fn in_zone(time: SystemTime, zone: TimeZone) -> Option<String> {
    let time = Timestamp::try_from(time).ok()?.to_zoned(zone);
    Some(time.strftime("%Y-%m-%dT%H:%M:%S%z").to_string())
}

/// The zone that a `TZ` value means (tzset(3)): `:FILE`, the name of a zone file, or a POSIX rule.
fn zone(tz: Option<&str>, read: impl Fn(&Path) -> Option<Vec<u8>>) -> TimeZone {
    let from_file = |path: PathBuf| TimeZone::tzif("local", &read(&path)?).ok();
    let found = match tz {
        None => from_file(PathBuf::from(LOCAL_ZONE)),
        Some("") => None,
        Some(tz) => {
            let name = tz.strip_prefix(':').unwrap_or(tz);
            from_file(Path::new(ZONE_FILES).join(name)).or_else(|| TimeZone::posix(name).ok())
        }
    };
    found.unwrap_or(TimeZone::UTC)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn zones() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_743_517_582_999);
        let show = |tz| in_zone(time, zone(tz, |_| None)).unwrap();
        assert_eq!(show(None), "2025-04-01T14:26:22+0000");
        assert_eq!(show(Some("")), "2025-04-01T14:26:22+0000");
        assert_eq!(
            show(Some("EST5EDT,M3.2.0,M11.1.0")),
            "2025-04-01T10:26:22-0400"
        );
        assert_eq!(show(Some("no such zone")), "2025-04-01T14:26:22+0000");
    }

    #[test]
    fn json_has_whole_seconds_in_utc() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_743_517_582_999);
        assert_eq!(rfc3339(time).unwrap(), "2025-04-01T14:26:22Z");
    }

    #[test]
    fn times_of_odd_clocks_are_shown_or_left_out() {
        let years = |count: u64| Duration::from_secs(count * 31_556_952);
        let before = SystemTime::UNIX_EPOCH - years(10);
        assert!(rfc3339(before).unwrap().starts_with("19"));
        assert!(in_zone(before, TimeZone::UTC).unwrap().starts_with("19"));
        for time in [
            SystemTime::UNIX_EPOCH + years(8_100),
            SystemTime::UNIX_EPOCH + years(200_000),
            SystemTime::UNIX_EPOCH - years(200_000),
        ] {
            assert_eq!(rfc3339(time), None, "{time:?}");
            let zone = zone(Some("EST5EDT,M3.2.0,M11.1.0"), |_| None);
            assert_eq!(in_zone(time, zone), None, "{time:?}");
        }
        // The ends, in zones on either side.
        for end in [Timestamp::MIN, Timestamp::MAX] {
            for tz in ["XXX-14", "XXX+12"] {
                let zone = zone(Some(tz), |_| None);
                assert!(in_zone(SystemTime::from(end), zone).is_some());
            }
            assert!(rfc3339(SystemTime::from(end)).is_some());
        }
    }
}
