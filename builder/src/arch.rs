use std::fmt;

use bytecode_object::ByteOrder;

/// An architecture that bytecode is built for: one slot of a multi-architecture image.
///
/// A flag, a build argument, an OCI platform, a byte order and the file tags of bpf2go belong together.
/// Ordered by GOARCH name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Architecture {
    I386,
    Amd64,
    Arm,
    Arm64,
    Loong64,
    Mips,
    Mips64,
    Mips64le,
    Mipsle,
    Ppc64,
    Ppc64le,
    Riscv64,
    S390x,
}

/// What belongs to one architecture.
struct Row {
    goarch: &'static str,
    build_arg: &'static str,
    flag: &'static str,
    order: ByteOrder,
    /// What stands before `bpfel` or `bpfeb` in the file names of bpf2go, old and new.
    tags: &'static [&'static str],
}

impl Architecture {
    /// Every architecture, ordered by GOARCH name.
    pub const ALL: [Self; 13] = [
        Self::I386,
        Self::Amd64,
        Self::Arm,
        Self::Arm64,
        Self::Loong64,
        Self::Mips,
        Self::Mips64,
        Self::Mips64le,
        Self::Mipsle,
        Self::Ppc64,
        Self::Ppc64le,
        Self::Riscv64,
        Self::S390x,
    ];

    fn row(self) -> Row {
        let (goarch, build_arg, flag, tags): (_, _, _, &'static [&'static str]) = match self {
            Self::I386 => ("386", "BC_386_EL", "bc-386-el", &["386"]),
            Self::Amd64 => ("amd64", "BC_AMD64_EL", "bc-amd64-el", &["x86", "amd64"]),
            Self::Arm => ("arm", "BC_ARM_EL", "bc-arm-el", &["arm"]),
            Self::Arm64 => ("arm64", "BC_ARM64_EL", "bc-arm64-el", &["arm64"]),
            Self::Loong64 => (
                "loong64",
                "BC_LOONG64_EL",
                "bc-loong64-el",
                &["loongarch", "loong64"],
            ),
            Self::Mips => ("mips", "BC_MIPS_EB", "bc-mips-eb", &["mips"]),
            Self::Mips64 => ("mips64", "BC_MIPS64_EB", "bc-mips64-eb", &["mips64"]),
            Self::Mips64le => (
                "mips64le",
                "BC_MIPS64LE_EL",
                "bc-mips64le-el",
                &["mips64le", "mips64"],
            ),
            Self::Mipsle => (
                "mipsle",
                "BC_MIPSLE_EL",
                "bc-mipsle-el",
                &["mipsle", "mips"],
            ),
            Self::Ppc64 => ("ppc64", "BC_PPC64_EB", "bc-ppc64-eb", &["powerpc", "ppc64"]),
            Self::Ppc64le => (
                "ppc64le",
                "BC_PPC64LE_EL",
                "bc-ppc64le-el",
                &["powerpc", "ppc64le"],
            ),
            Self::Riscv64 => (
                "riscv64",
                "BC_RISCV64_EL",
                "bc-riscv64-el",
                &["riscv", "riscv64"],
            ),
            Self::S390x => ("s390x", "BC_S390X_EB", "bc-s390x-eb", &["s390", "s390x"]),
        };
        let order = if build_arg.ends_with("_EB") {
            ByteOrder::Big
        } else {
            ByteOrder::Little
        };
        Row {
            goarch,
            build_arg,
            flag,
            order,
            tags,
        }
    }

    /// The GOARCH name, as it stands in an OCI platform: `amd64`.
    pub fn goarch(self) -> &'static str {
        self.row().goarch
    }

    /// The build argument of `Containerfile.bytecode.multi.arch`: `BC_AMD64_EL`.
    pub fn build_arg(self) -> &'static str {
        self.row().build_arg
    }

    /// The command line's flag without its dashes: `bc-amd64-el`.
    pub fn flag(self) -> &'static str {
        self.row().flag
    }

    /// Byte order of its bytecode.
    pub fn byte_order(self) -> ByteOrder {
        self.row().order
    }

    /// The architecture of a GOARCH name; `None` when no bytecode is built for it.
    pub fn from_goarch(goarch: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|architecture| architecture.goarch() == goarch)
    }

    /// What stands before `bpfel` or `bpfeb` in the file names of bpf2go, old and new.
    pub(crate) fn tags(self) -> &'static [&'static str] {
        self.row().tags
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.goarch())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_belong_together() {
        for architecture in Architecture::ALL {
            let row = architecture.row();
            assert_eq!(row.flag, row.build_arg.to_lowercase().replace('_', "-"));
            let middle = row.build_arg.split('_').nth(1).unwrap();
            assert_eq!(middle.to_lowercase(), row.goarch);
            assert_eq!(Architecture::from_goarch(row.goarch), Some(architecture));
            let platform = bytecode_image::platform::Platform::linux(row.goarch);
            assert_eq!(platform.byte_order(), Some(row.order), "{platform}");
        }
        assert!(Architecture::ALL.is_sorted_by_key(|architecture| architecture.goarch()));
        assert!(Architecture::ALL.is_sorted());
        assert_eq!(Architecture::from_goarch("sparc64"), None);
    }
}
