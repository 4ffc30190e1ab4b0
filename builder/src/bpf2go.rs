//! The file names that bpf2go gives objects: `<ident>_<tag>_bpfel.o` for one architecture, `<ident>_bpfel.o` for every
//! one of that byte order. Pure.

use bytecode_object::ByteOrder;

use crate::Architecture;

/// GOARCH names that no bytecode image is made for (`go tool dist list`, `internal/syslist`), and kernel names beside
/// them. None of them is a program's name by accident.
const FOREIGN: [&str; 12] = [
    "amd64p32",
    "arm64be",
    "armbe",
    "mips64p32",
    "mips64p32le",
    "ppc",
    "ppc32",
    "riscv32",
    "sparc",
    "sparc64",
    "wasm",
    "x32",
];

/// A file name that ends like one of bpf2go's.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Name<'a> {
    /// What comes before `bpfel` or `bpfeb`, split at `_`, `-` and `.`.
    stem: Vec<&'a str>,
    order: ByteOrder,
}

/// What a name says that its object is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// One architecture.
    One(Architecture),
    /// An architecture's tag at the wrong byte order, as in `bpf_s390_bpfel.o`: that of this architecture.
    OtherOrder(Architecture),
    /// An architecture that no bytecode image is made for.
    Foreign,
    /// Every architecture of the byte order.
    Every,
}

impl<'a> Name<'a> {
    /// `None` for a file that is not bpf2go's.
    pub(crate) fn parse(name: &'a str) -> Option<Self> {
        // Split and never searched: `arm64` contains `arm`.
        let mut stem: Vec<&str> = name.split(['_', '-', '.']).collect();
        let order = match (stem.pop()?, stem.pop()?) {
            ("o", "bpfel") => ByteOrder::Little,
            ("o", "bpfeb") => ByteOrder::Big,
            _ => return None,
        };
        Some(Self { stem, order })
    }

    /// What it is for, by this name alone.
    pub(crate) fn target(&self) -> Target {
        // Something must stand before the tag: `arm_bpfel.o` is a program named `arm`.
        let [_, .., tag] = self.stem.as_slice() else {
            return Target::Every;
        };
        let tagged = |architecture: &Architecture| architecture.tags().contains(tag);
        let mut known = Architecture::ALL.into_iter().filter(tagged);
        match (
            known.clone().find(|found| found.byte_order() == self.order),
            known.next(),
        ) {
            (Some(architecture), _) => Target::One(architecture),
            (None, Some(architecture)) => Target::OtherOrder(architecture),
            (None, None) if FOREIGN.contains(tag) => Target::Foreign,
            (None, None) => Target::Every,
        }
    }

    /// The architectures of its byte order.
    pub(crate) fn of_order(&self) -> impl Iterator<Item = Architecture> {
        let order = self.order;
        Architecture::ALL
            .into_iter()
            .filter(move |architecture| architecture.byte_order() == order)
    }

    /// Whether its last part stands where the tag of that sibling does: `bpf_riscv32_bpfel.o` beside `bpf_x86_bpfel.o`.
    pub(crate) fn has_tag_beside(&self, targeted: &Self) -> bool {
        match (self.stem.split_last(), targeted.stem.split_last()) {
            (Some((_, own)), Some((_, ident))) => !own.is_empty() && own == ident,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Architecture::*;

    #[test]
    fn file_names() {
        let table = [
            ("bpf_386_bpfel.o", Target::One(I386)),
            ("bpf_x86_bpfel.o", Target::One(Amd64)),
            ("bpf_amd64_bpfel.o", Target::One(Amd64)),
            ("bpf_arm_bpfel.o", Target::One(Arm)),
            ("bpf_arm64_bpfel.o", Target::One(Arm64)),
            ("bpf_loongarch_bpfel.o", Target::One(Loong64)),
            ("bpf_loong64_bpfel.o", Target::One(Loong64)),
            ("bpf_mips_bpfeb.o", Target::One(Mips)),
            ("bpf_mips_bpfel.o", Target::One(Mipsle)),
            ("bpf_mipsle_bpfel.o", Target::One(Mipsle)),
            ("bpf_mips64_bpfeb.o", Target::One(Mips64)),
            ("bpf_mips64_bpfel.o", Target::One(Mips64le)),
            ("bpf_mips64le_bpfel.o", Target::One(Mips64le)),
            ("bpf_powerpc_bpfeb.o", Target::One(Ppc64)),
            ("bpf_ppc64_bpfeb.o", Target::One(Ppc64)),
            ("bpf_powerpc_bpfel.o", Target::One(Ppc64le)),
            ("bpf_ppc64le_bpfel.o", Target::One(Ppc64le)),
            ("bpf_riscv_bpfel.o", Target::One(Riscv64)),
            ("bpf_riscv64_bpfel.o", Target::One(Riscv64)),
            ("bpf_s390_bpfeb.o", Target::One(S390x)),
            ("bpf_s390x_bpfeb.o", Target::One(S390x)),
            ("my-arm_counter_x86_bpfel.o", Target::One(Amd64)),
            // The wrong byte order.
            ("bpf_x86_bpfeb.o", Target::OtherOrder(Amd64)),
            ("bpf_arm64_bpfeb.o", Target::OtherOrder(Arm64)),
            ("bpf_s390_bpfel.o", Target::OtherOrder(S390x)),
            ("bpf_mipsle_bpfeb.o", Target::OtherOrder(Mipsle)),
            ("bpf_ppc64le_bpfeb.o", Target::OtherOrder(Ppc64le)),
            ("bpf_ppc64_bpfel.o", Target::OtherOrder(Ppc64)),
            // Nobody's.
            ("bpf_riscv32_bpfel.o", Target::Foreign),
            ("bpf_sparc_bpfeb.o", Target::Foreign),
            // No tag.
            ("bpf_bpfel.o", Target::Every),
            ("bpf_bpfeb.o", Target::Every),
            ("arm_bpfeb.o", Target::Every),
            ("riscv32_bpfel.o", Target::Every),
            ("my_counter_bpfel.o", Target::Every),
            ("bpfel.o", Target::Every),
        ];
        for (name, expected) in table {
            assert_eq!(Name::parse(name).unwrap().target(), expected, "{name}");
        }
        for name in [
            "bpf_x86_bpfel.go",
            "bpf_x86.o",
            "counter.o",
            "bpfel.o.old",
            "",
            "o",
        ] {
            assert_eq!(Name::parse(name), None, "{name}");
        }
    }

    #[test]
    fn architectures_of_a_byte_order() {
        let of = |name| Name::parse(name).unwrap().of_order().collect::<Vec<_>>();
        assert_eq!(of("bpf_bpfeb.o"), [Mips, Mips64, Ppc64, S390x]);
        assert_eq!(of("bpf_bpfel.o").len(), 9);
    }

    #[test]
    fn parts_that_stand_where_a_tag_does() {
        let table = [
            ("bpf_riscv33_bpfel.o", "bpf_x86_bpfel.o", true),
            ("my_bpf_new_bpfel.o", "my_bpf_s390_bpfeb.o", true),
            ("bpf_bpfel.o", "bpf_x86_bpfel.o", false),
            ("my_bpf_bpfel.o", "my_bpf_x86_bpfel.o", false),
            ("other_new_bpfel.o", "bpf_x86_bpfel.o", false),
        ];
        for (name, sibling, expected) in table {
            let [name, sibling] = [name, sibling].map(|name| Name::parse(name).unwrap());
            assert_eq!(name.has_tag_beside(&sibling), expected, "{name:?}");
        }
    }
}
