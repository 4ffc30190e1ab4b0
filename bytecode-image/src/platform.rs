//! Platforms by the names that images use: GOOS, GOARCH and the variant (OCI image-spec, image-index.md, "platform").

use std::fmt;
use std::str::FromStr;

use bytecode_object::ByteOrder;
use serde::{Deserialize, Serialize};

/// What an image is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// GOOS: `linux`.
    pub os: String,
    /// GOARCH: `amd64`, `arm64`, `s390x`…
    pub architecture: String,
    /// `v7` of `linux/arm/v7`; most architectures have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// A text that is not `os/architecture` or `os/architecture/variant`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a platform: expected OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, such as linux/arm64"
)]
pub struct PlatformError(pub String);

/// Variants in the order of what a host of the first can run: a v7 host runs v6 and v5 too. As containers tools have it
/// (`compatibility` in containers/image, internal/pkg/platform/platform_matcher.go).
const ARM_VARIANTS: [&str; 4] = ["v8", "v7", "v6", "v5"];

impl Platform {
    /// `linux/<architecture>` without a variant.
    pub fn linux(architecture: impl Into<String>) -> Self {
        Self {
            os: "linux".to_owned(),
            architecture: architecture.into(),
            variant: None,
        }
    }

    /// The platform that this program was built for; of 32-bit ARM the variant of the machine that it runs on.
    pub fn host() -> Self {
        let little = cfg!(target_endian = "little");
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "x86" => "386",
            "aarch64" => "arm64",
            "loongarch64" => "loong64",
            "mips" if little => "mipsle",
            "mips64" if little => "mips64le",
            "powerpc64" if little => "ppc64le",
            "powerpc64" => "ppc64",
            other => other,
        };
        let mut host = Self::linux(architecture);
        if architecture == "arm" {
            let machine = rustix::system::uname();
            let machine = machine.machine().to_string_lossy();
            host.variant = arm_variant(&machine).map(str::to_owned);
        }
        host
    }

    /// Byte order of the architecture, for the thirteen that bytecode images are made for;
    /// `None` for any other.
    pub fn byte_order(&self) -> Option<ByteOrder> {
        match self.architecture.as_str() {
            "386" | "amd64" | "arm" | "arm64" | "loong64" | "mipsle" | "mips64le" | "ppc64le"
            | "riscv64" => Some(ByteOrder::Little),
            "mips" | "mips64" | "ppc64" | "s390x" => Some(ByteOrder::Big),
            _ => None,
        }
    }

    /// How well an image for `offered` serves a host of this platform: 0 is best, higher is worse, `None` is not at all.
    ///
    /// In the order of containers tools (`WantedPlatforms` of the source above): with a variant asked for that one, for
    /// `arm` then the lower ones, and an image that says none last; without one an image that says none, then for `arm`
    /// v8 to v5. What they refuse and bytecode can do, as no instruction of the host is in it: any variant where none was
    /// asked for, after those.
    pub fn distance(&self, offered: &Self) -> Option<usize> {
        if self.os != offered.os || self.architecture != offered.architecture {
            return None;
        }
        let known = ARM_VARIANTS.len();
        let rank = |variant: &str| {
            let is_arm = self.architecture == "arm";
            let place = ARM_VARIANTS.iter().position(|known| *known == variant);
            place.filter(|_| is_arm)
        };
        match (self.variant.as_deref(), offered.variant.as_deref()) {
            (None, None) => Some(0),
            (None, Some(found)) => Some(1 + rank(found).unwrap_or(known)),
            (Some(_), None) => Some(known),
            (Some(wanted), Some(found)) if wanted == found => Some(0),
            (Some(wanted), Some(found)) => match (rank(wanted), rank(found)) {
                (Some(wanted), Some(found)) if found > wanted => Some(found - wanted),
                _ => None,
            },
        }
    }
}

/// The variant of a 32-bit ARM host by what the kernel calls the machine (`uname -m`): `armv7l`, `armv6l`, `armv5tejl`;
/// on a 64-bit kernel `aarch64` or `armv8l`.
fn arm_variant(machine: &str) -> Option<&'static str> {
    if machine == "aarch64" {
        return Some("v8");
    }
    let number = machine.strip_prefix("arm")?.get(..2)?;
    ARM_VARIANTS.into_iter().find(|variant| *variant == number)
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || PlatformError(text.to_owned());
        let mut parts = text.split('/');
        let mut next = || match parts.next() {
            Some(part)
                if part.is_empty()
                    || !part
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) =>
            {
                Err(refused())
            }
            part => Ok(part.map(str::to_owned)),
        };
        let os = next()?.ok_or_else(refused)?;
        let architecture = next()?.ok_or_else(refused)?;
        let variant = next()?;
        match next()? {
            None => Ok(Self {
                os,
                architecture,
                variant,
            }),
            Some(_) => Err(refused()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_back() {
        for text in [
            "linux/amd64",
            "linux/arm/v7",
            "linux/s390x",
            "windows/amd64",
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "linux",
            "linux/",
            "/amd64",
            "linux//v7",
            "linux/arm/v7/x",
            "linux/arm/",
            "li nux/arm",
        ] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }

    #[test]
    fn host_is_one_of_the_thirteen() {
        let host = Platform::host();
        let order = if cfg!(target_endian = "little") {
            ByteOrder::Little
        } else {
            ByteOrder::Big
        };
        assert_eq!(host.byte_order(), Some(order), "{host}");
    }

    #[test]
    fn distances() {
        let cases = [
            ("linux/amd64", "linux/amd64", Some(0)),
            ("linux/amd64", "linux/amd64/v3", Some(5)),
            ("linux/amd64/v2", "linux/amd64", Some(4)),
            ("linux/amd64/v2", "linux/amd64/v3", None),
            ("linux/arm64", "linux/arm64/v8", Some(5)),
            ("linux/arm64/v8", "linux/arm64", Some(4)),
            ("linux/arm/v6", "linux/arm/v7", None),
            ("linux/arm/v7", "linux/arm/v9", None),
            ("linux/arm", "linux/arm64", None),
            ("linux/amd64", "windows/amd64", None),
        ];
        for (wanted, offered, expected) in cases {
            let distance = wanted
                .parse::<Platform>()
                .unwrap()
                .distance(&offered.parse().unwrap());
            assert_eq!(distance, expected, "{wanted} from {offered}");
        }
    }

    #[test]
    fn the_order_of_containers_tools() {
        for (wanted, expected) in [
            ("linux/arm/v8", "v8 v7 v6 v5 -"),
            ("linux/arm/v7", "v7 v6 v5 -"),
            ("linux/arm/v5", "v5 -"),
            ("linux/arm", "- v8 v7 v6 v5"),
        ] {
            let wanted: Platform = wanted.parse().unwrap();
            let mut found: Vec<_> = ["v6", "-", "v5", "v8", "v7"]
                .into_iter()
                .filter_map(|variant| {
                    let mut offered = Platform::linux("arm");
                    offered.variant = Some(variant.to_owned()).filter(|variant| variant != "-");
                    Some((wanted.distance(&offered)?, variant))
                })
                .collect();
            found.sort_unstable();
            let found: Vec<_> = found.into_iter().map(|(_, variant)| variant).collect();
            assert_eq!(found.join(" "), expected, "{wanted}");
        }
    }

    #[test]
    fn machines() {
        for (machine, expected) in [
            ("armv7l", Some("v7")),
            ("armv6l", Some("v6")),
            ("armv5tejl", Some("v5")),
            ("armv8l", Some("v8")),
            ("aarch64", Some("v8")),
            ("armv4l", None),
            ("arm", None),
            ("x86_64", None),
        ] {
            assert_eq!(arm_variant(machine), expected, "{machine}");
        }
    }
}
