//! What follows from the kernel's version. Nothing is tried out on the running kernel: aya's own probes cost more
//! than a load.

use std::fmt;

use aya_obj::btf::BtfFeatures;

/// Major and minor number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(pub(super) u32, pub(super) u32);

impl Version {
    /// Of the running kernel; the newest there is when it does not say.
    pub(super) fn running() -> Self {
        let uname = rustix::system::uname();
        let release = uname.release().to_str().ok().and_then(Self::parse);
        release.unwrap_or(Self(u32::MAX, 0))
    }

    /// `6.12.107+deb13-amd64` → 6.12.
    fn parse(release: &str) -> Option<Self> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit());
        Some(Self(
            numbers.next()?.parse().ok()?,
            numbers.next()?.parse().ok()?,
        ))
    }

    /// Whether memory of BPF objects counts against RLIMIT_MEMLOCK (until 5.11, when it went to the cgroup).
    pub(super) fn charges_memlock(self) -> bool {
        self < Self(5, 11)
    }

    /// Whether the kernel as released has TCX.
    pub(super) fn has_tcx(self) -> bool {
        self >= Self(6, 6)
    }

    /// BTF that this kernel takes; aya rewrites the rest. A vendor's kernel that takes more loses nothing by it.
    pub(super) fn btf_features(self) -> BtfFeatures {
        let since = |major, minor| self >= Self(major, minor);
        BtfFeatures::new(
            since(5, 0),  // FUNC
            since(5, 6),  // FUNC with linkage
            since(5, 2),  // DATASEC
            since(5, 12), // empty DATASEC
            since(5, 13), // FLOAT
            since(5, 16), // DECL_TAG
            since(5, 17), // TYPE_TAG
            since(6, 0),  // ENUM64
        )
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read() {
        let cases = [
            ("6.12.107+deb13-amd64", Some(Version(6, 12))),
            ("5.4.0-150-generic", Some(Version(5, 4))),
            ("6.18-rc1", Some(Version(6, 18))),
            ("6", None),
            ("", None),
        ];
        for (release, expected) in cases {
            assert_eq!(Version::parse(release), expected, "{release}");
        }
        assert!(Version(5, 10).charges_memlock() && !Version(5, 11).charges_memlock());
        assert!(
            !Version(5, 19).btf_features().btf_enum64()
                && Version(6, 0).btf_features().btf_enum64()
        );
    }
}
