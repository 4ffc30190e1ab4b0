//! The function of the kernel that was most likely meant. Only functions that take a probe are offered: a hint that
//! leads to the next refusal is none.

use std::collections::BTreeSet;
use std::fs;

use super::load::KernelBtf;
use super::probes::SYMBOLS;
use crate::near::nearest;

/// Functions that ftrace can trace, one line each, modules in brackets: where the kernel has it and tracefs is mounted.
const TRACEABLE: [&str; 2] = [
    "/sys/kernel/tracing/available_filter_functions",
    "/sys/kernel/debug/tracing/available_filter_functions",
];
/// Ranges of addresses and functions that take no kprobe: `0xffffffff81c00000-0xffffffff81c00010\tname`.
const BLACKLIST: &str = "/sys/kernel/debug/kprobes/blacklist";

/// What names begin with that compilers and the kernel make for code that is not a function of a source: padding before
/// functions, control-flow checks, trampolines of static calls.
const MADE: [&str; 8] = [
    "__pfx_",
    "__cfi_",
    "__SCT__",
    "__SCK__",
    "__probestub_",
    "__initstub__",
    "__ksymtab_",
    "__kstrtab_",
];

/// Pairs of symbols between which the kernel takes no kprobe (`arch_populate_kprobe_blacklist`,
/// `populate_kprobe_blacklist` in kernel/kprobes.c), or that it frees after its start.
const FORBIDDEN: [(&str, &str); 4] = [
    ("__kprobes_text_start", "__kprobes_text_end"),
    ("__noinstr_text_start", "__noinstr_text_end"),
    ("__entry_text_start", "__entry_text_end"),
    ("_sinittext", "_einittext"),
];

/// The nearest one that takes a kprobe or, with `tracing`, an fentry or fexit program. Reads some ten megabytes: only
/// for a message.
pub(super) fn near(name: &str, tracing: bool) -> Option<String> {
    let symbols = fs::read_to_string(SYMBOLS).ok()?;
    let traceable = TRACEABLE
        .iter()
        .find_map(|path| fs::read_to_string(path).ok());
    let blacklist = fs::read_to_string(BLACKLIST).unwrap_or_default();
    let mut functions = probed(&symbols, traceable.as_deref(), &blacklist);
    if !tracing {
        return nearest(name, functions).map(str::to_owned);
    }
    // What is near and has no type of its own (functions of modules, of assembly) gives way to the next.
    let mut btf = KernelBtf::unread();
    btf.bytes().ok()?;
    loop {
        let found = nearest(name, functions.iter().copied())?.to_owned();
        if matches!(btf.function(&found), Ok(Some(_))) {
            return Some(found);
        }
        functions.remove(found.as_str());
    }
}

/// A line of `/proc/kallsyms`.
struct Symbol<'a> {
    address: u64,
    kind: &'a str,
    name: &'a str,
    module: Option<&'a str>,
}

fn symbol(line: &str) -> Option<Symbol<'_>> {
    let mut words = line.split_ascii_whitespace();
    let address = u64::from_str_radix(words.next()?, 16).ok()?;
    Some(Symbol {
        address,
        kind: words.next()?,
        name: words.next()?,
        module: words.next(),
    })
}

/// Names of functions that can be probed by them.
fn probed<'a>(symbols: &'a str, traceable: Option<&str>, blacklist: &str) -> BTreeSet<&'a str> {
    let traceable: Option<BTreeSet<&str>> = traceable.map(|lines| {
        let names = lines.lines();
        names
            .filter_map(|line| line.split_ascii_whitespace().next())
            .collect()
    });
    let traceable = traceable.filter(|names| !names.is_empty());
    let refused: BTreeSet<&str> = blacklist
        .lines()
        .filter_map(|line| line.split_ascii_whitespace().nth(1))
        .collect();
    let limits = FORBIDDEN.map(|(start, end)| {
        let at = |wanted: &str| {
            let mut found = symbols.lines().filter_map(symbol);
            found.find(|symbol| symbol.name == wanted)
        };
        match (at(start), at(end)) {
            (Some(start), Some(end)) => start.address..end.address,
            // Without addresses (kernel.kptr_restrict) both are 0.
            _ => 0..0,
        }
    });
    let mut once = BTreeSet::new();
    let mut twice = BTreeSet::new();
    for symbol in symbols.lines().filter_map(symbol) {
        let name = symbol.name;
        let function = ["t", "T", "w", "W"].contains(&symbol.kind) && is_a_function(name);
        // Code that the kernel makes as it runs is listed as that of a module.
        let made = |module: &str| module.starts_with("[__builtin__") || module == "[bpf]";
        if !function || symbol.module.is_some_and(made) {
            continue;
        }
        // One name of several functions is refused (EADDRNOTAVAIL, since 6.7).
        if !once.insert(name) {
            twice.insert(name);
        }
        let forbidden = limits.iter().any(|limits| limits.contains(&symbol.address));
        let listed = traceable
            .as_ref()
            .is_none_or(|traceable| traceable.contains(name));
        if forbidden || !listed || refused.contains(name) {
            twice.insert(name);
        }
    }
    once.retain(|name| !twice.contains(name));
    once
}

/// Whether a name is that of a function as it stands in a source: not of a part of one (`.cold`, `.constprop.0`,
/// `.isra.0`, `.llvm.123`), and none that is made.
fn is_a_function(name: &str) -> bool {
    let taken = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.bytes().all(taken) && !MADE.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYMBOLS: &str = "\
ffffffff81000000 T _stext
ffffffff81000010 t __pfx_vfs_read
ffffffff81000020 T vfs_read
ffffffff81000030 t vfs_read.cold
ffffffff81000040 t vfs_open.constprop.0
ffffffff81000050 t __cfi_vfs_open
ffffffff81000060 T vfs_open
ffffffff81000070 t twice
ffffffff81000080 t twice
ffffffff81000090 T notrace_one
ffffffff810000a0 T blacklisted
ffffffff810000b0 D jiffies
ffffffff81100000 T __noinstr_text_start
ffffffff81100010 t in_noinstr
ffffffff81100020 T __noinstr_text_end
ffffffff82000000 T _sinittext
ffffffff82000010 t at_start
ffffffff82000020 T _einittext
ffffffffc0000000 t veth_xmit\t[veth]
ffffffffc0000010 t bpf_prog_0123456789abcdef_pass\t[bpf]
ffffffffc0000020 t ftrace_trampoline\t[__builtin__ftrace]
ffffffff81000100 t __SCT__tp_func_kill
half a line
";

    fn found(symbols: &str, traceable: Option<&str>, blacklist: &str) -> Vec<String> {
        let found = probed(symbols, traceable, blacklist);
        let markers = ["_stext", "_sinittext", "_einittext"];
        let found = found
            .into_iter()
            .filter(|name| !markers.contains(name) && !name.starts_with("__noinstr_text_"));
        found.map(str::to_owned).collect()
    }

    #[test]
    fn only_functions_that_take_a_probe_are_offered() {
        let blacklist = "0xffffffff810000a0-0xffffffff810000b0\tblacklisted\n";
        let all = found(SYMBOLS, None, blacklist);
        assert_eq!(all, ["notrace_one", "veth_xmit", "vfs_open", "vfs_read"]);
        let traceable = "vfs_read\nvfs_open\nveth_xmit [veth]\ntwice\n";
        let all = found(SYMBOLS, Some(traceable), blacklist);
        assert_eq!(all, ["veth_xmit", "vfs_open", "vfs_read"]);
        // An empty list says nothing.
        assert_eq!(found(SYMBOLS, Some(""), blacklist).len(), 4);
    }

    #[test]
    fn hidden_addresses_forbid_nothing() {
        let hidden: String = SYMBOLS
            .lines()
            .map(|line| match line.split_once(' ') {
                Some((_, rest)) => format!("0000000000000000 {rest}\n"),
                None => String::new(),
            })
            .collect();
        let all = found(&hidden, None, "");
        assert!(all.contains(&"vfs_read".to_owned()), "{all:?}");
        assert!(!all.contains(&"__pfx_vfs_read".to_owned()), "{all:?}");
    }
}
