//! What the running kernel says of externs: its configuration, its symbols, its BTF.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};

use flate2::read::GzDecoder;

use super::load::KernelBtf;
use super::version::Version;
use super::{KernelError, failed};
use crate::kernel::ExternError;
use crate::object::kconfig::{self, ConfigValueError};
use crate::object::{ConfigType, Extern, ExternKind, Resolved};

/// Longest configuration that is read, unpacked: 8 MiB. The largest known have 300 KB.
const MAX_CONFIG_BYTES: u64 = 8 << 20;

/// Addresses of the kernel's symbols.
const KALLSYMS: &str = "/proc/kallsyms";

/// Looks every extern up.
pub(super) fn resolve(
    externs: &[Extern],
    kernel_btf: &mut KernelBtf,
    version: Version,
) -> Result<BTreeMap<String, Resolved>, KernelError> {
    let mut resolved = BTreeMap::new();
    let mut config = Config(None);
    let mut untyped = Vec::new();
    for wanted in externs {
        let fail = |source| error(wanted, source);
        let found = match wanted.kind {
            None => return Err(fail(ExternError::NoType)),
            Some(ExternKind::Config(kind)) => {
                Some(Resolved::Value(value(wanted, kind, &mut config, version)?))
            }
            Some(ExternKind::Variable { typed: false }) => {
                untyped.push(wanted);
                continue;
            }
            Some(ExternKind::Variable { typed: true }) => {
                match (kernel_btf.variable(&wanted.name)?, wanted.weak) {
                    (Some(id), _) => Some(Resolved::KernelType(id)),
                    (None, true) => Some(Resolved::Address(0)),
                    (None, false) => return Err(fail(ExternError::NoVariable)),
                }
            }
            Some(ExternKind::Function) => match (kernel_btf.function(&wanted.name)?, wanted.weak) {
                (Some(id), _) => Some(Resolved::KernelType(id)),
                (None, true) => Some(Resolved::Missing),
                (None, false) => return Err(fail(ExternError::NoFunction)),
            },
        };
        resolved.extend(found.map(|found| (wanted.name.clone(), found)));
    }
    if !untyped.is_empty() {
        addresses(&untyped, &mut resolved)?;
    }
    Ok(resolved)
}

fn error(wanted: &Extern, source: ExternError) -> KernelError {
    KernelError::Extern {
        function: wanted.function.clone(),
        symbol: wanted.name.clone(),
        source: Box::new(source),
    }
}

/// A value of the configuration, or one of the three that libbpf makes up.
fn value(
    wanted: &Extern,
    kind: ConfigType,
    config: &mut Config,
    version: Version,
) -> Result<Vec<u8>, KernelError> {
    let encoded = |value: &str| {
        kconfig::encode(value, kind)
            .map_err(|source: ConfigValueError| error(wanted, ExternError::Value { source }))
    };
    let flag = |set: bool| if set { "1" } else { "0" };
    match wanted.name.as_str() {
        "LINUX_KERNEL_VERSION" => encoded(&kernel_version().to_string()),
        // bpf_get_attach_cookie, kernel 5.15.
        "LINUX_HAS_BPF_COOKIE" => encoded(flag(version >= Version(5, 15))),
        "LINUX_HAS_SYSCALL_WRAPPER" => encoded(flag(has_syscall_wrapper(version))),
        name if name.starts_with("CONFIG_") => {
            let text = config
                .text()
                .map_err(|source| error(wanted, ExternError::NoConfiguration { source }))?;
            match kconfig::find(text, name) {
                Some(value) => encoded(value),
                None if wanted.weak => Ok(kconfig::nought(kind)),
                None => Err(error(wanted, ExternError::NotConfigured)),
            }
        }
        _ if wanted.weak => Ok(kconfig::nought(kind)),
        _ => Err(error(wanted, ExternError::NoSuchConfiguration)),
    }
}

/// Whether system calls take their arguments in one struct: `CONFIG_ARCH_HAS_SYSCALL_WRAPPER`.
fn has_syscall_wrapper(version: Version) -> bool {
    let since = match std::env::consts::ARCH {
        "x86_64" | "x86" => Version(4, 17),
        "aarch64" | "s390x" => Version(4, 19),
        "powerpc64" => Version(6, 1),
        "riscv64" => Version(6, 6),
        _ => return false,
    };
    version >= since
}

/// `KERNEL_VERSION(a, b, c)`: Ubuntu says the one it is made from in a file of its own.
fn kernel_version() -> u32 {
    let signature = fs::read_to_string("/proc/version_signature").unwrap_or_default();
    let uname = rustix::system::uname();
    let release = match signature.split_whitespace().last() {
        Some(version) => version.to_owned(),
        None => uname.release().to_string_lossy().into_owned(),
    };
    version_code(&release)
}

fn version_code(release: &str) -> u32 {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|number| number.parse::<u32>().unwrap_or_default());
    let mut next = || numbers.next().unwrap_or_default();
    let (major, minor, patch) = (next(), next(), next());
    (major << 16) + (minor << 8) + patch.min(255)
}

/// The configuration, read when something asks for it.
struct Config(Option<String>);

impl Config {
    fn text(&mut self) -> io::Result<&str> {
        match &mut self.0 {
            Some(text) => Ok(text),
            empty => Ok(empty.insert(read_config()?)),
        }
    }
}

fn read_config() -> io::Result<String> {
    let uname = rustix::system::uname();
    let boot = format!("/boot/config-{}", uname.release().to_string_lossy());
    let mut text = String::new();
    match File::open(boot) {
        Ok(file) => file.take(MAX_CONFIG_BYTES).read_to_string(&mut text)?,
        Err(_) => GzDecoder::new(File::open("/proc/config.gz")?)
            .take(MAX_CONFIG_BYTES)
            .read_to_string(&mut text)?,
    };
    Ok(text)
}

/// Addresses of variables, in one walk through the kernel's symbols.
fn addresses(
    wanted: &[&Extern],
    resolved: &mut BTreeMap<String, Resolved>,
) -> Result<(), KernelError> {
    let text = fs::read_to_string(KALLSYMS).map_err(failed(|| format!("reading {KALLSYMS}")))?;
    for wanted in wanted {
        let found = match (address(&text, &wanted.name), wanted.weak) {
            (Some(0), false) => return Err(error(wanted, ExternError::HiddenAddress)),
            (Some(address), _) => address,
            (None, true) => 0,
            (None, false) => return Err(error(wanted, ExternError::NoSymbol)),
        };
        resolved.insert(wanted.name.clone(), Resolved::Address(found));
    }
    Ok(())
}

/// `ffffffff82a0a940 D init_task`
fn address(kallsyms: &str, name: &str) -> Option<u64> {
    kallsyms.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (address, found) = (words.next()?, words.nth(1)?);
        if found != name {
            return None;
        }
        u64::from_str_radix(address, 16).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_have_a_code() {
        let cases = [
            ("6.12.107+deb13-amd64", (6 << 16) + (12 << 8) + 107),
            ("4.15.300", (4 << 16) + (15 << 8) + 255),
            ("6.18-rc1", (6 << 16) + (18 << 8)),
            ("", 0),
        ];
        for (release, expected) in cases {
            assert_eq!(version_code(release), expected, "{release}");
        }
    }

    #[test]
    fn symbols_are_found_by_their_whole_name() {
        let text = "0000000000000000 A fixed\nffffffff82a0a940 D init_task\n\
            ffffffffc0001000 t init_task_work\t[some]\nffffffffc0002000 d of_module\t[some]\n";
        let cases = [
            ("init_task", Some(0xffff_ffff_82a0_a940)),
            ("fixed", Some(0)),
            ("of_module", Some(0xffff_ffff_c000_2000)),
            ("init", None),
        ];
        for (name, expected) in cases {
            assert_eq!(address(text, name), expected, "{name}");
        }
    }
}
