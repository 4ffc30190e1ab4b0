//! Probes of every kind with every option on a real kernel, proved by events that are counted: in a VM.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod probed;

use std::path::Path;

use bpfman_tests::chapters;
use bpfman_tests::vm::{HELPERS, Vm, VmOutcome};

use probed::{PROGRAMS, Probed};

/// Loads all programs at once, so that they share the map; their ids are in `$on_entry` and so on.
const SETUP: &str = r#"
ldconfig
bpfman load file --path program.o --programs PROGRAMS >/tmp/loaded
id() { awk -v name="$1" '$3 == name { print $1 }' /tmp/loaded; }
on_entry=$(id on_entry) on_return=$(id on_return)
at_entry=$(id at_entry) at_return=$(id at_return)
traced_entry=$(id traced_entry) traced_return=$(id traced_return)
hits() { value "$on_entry" hits "$1"; }
# one event of the kernel each
unlinks() { rm /tmp/one /tmp/two /tmp/three; }
before_unlinks() { touch /tmp/one /tmp/two /tmp/three; }
# a program that calls its functions once a line
mkfifo /tmp/in /tmp/out /tmp/cin /tmp/cout
meanwhile sh -c 'exec /bin/target </tmp/in >/tmp/out'
exec 3>/tmp/in 4</tmp/out
read -r pid <&4
calls() { for call in 1 2 3; do echo >&3; read -r called <&4; done; }
before_calls() { :; }
# the same in a container: another mount namespace with a root of its own, which nobody outside of it sees
meanwhile unshare -m sh -c '
    mount -t tmpfs tmpfs /mnt
    mkdir -p /mnt/lib /mnt/lib64 /mnt/bin /mnt/etc /mnt/opt /mnt/proc
    cp /lib/libc.so.6 /lib/libprobed.so.1 /lib/ld-linux* /mnt/lib/
    cp /lib/ld-linux* /mnt/lib64/
    cp /bin/target /mnt/bin/inside
    ln -s /bin/inside /mnt/opt/app
    ldconfig -r /mnt
    exec chroot /mnt /bin/inside </tmp/cin >/tmp/cout'
exec 5>/tmp/cin 6</tmp/cout
read -r container <&6
container_calls() { for call in 1 2 3; do echo >&5; read -r called <&6; done; }
before_container_calls() { :; }
# counts NAME ENTRY ID EVENTS TYPE OPTION…: attaches; how many events are counted, and how many once it is detached
counts() {
    name=$1 entry=$2 program=$3 events=$4
    shift 4
    link=$(attach "$program" "$@") || { echo "$link"; return 1; }
    case $name in
    kprobe | kretprobe | fentry | fexit | libc | container)
        bpfman list links | awk -v link="$link" -v name="$name" '$2 == link { $1 = $2 = ""; print "PLACE " name $0 }'
        ;;
    esac
    case "$*" in
    *"a=b"*) echo "SELECTED $name $(bpfman list links -m a=b | awk -v link="$link" 'NR > 1 && $2 == link' | wc -l)" ;;
    esac
    "before_$events"
    was=$(hits "$entry"); "$events"; attached=$(($(hits "$entry") - was))
    bpfman detach "$link"
    "before_$events"
    was=$(hits "$entry"); "$events"; detached=$(($(hits "$entry") - was))
    echo "COUNT $name $attached $detached"
}
"#;

fn machine() -> Option<Vm> {
    let vm = Vm::new()?.tool("bpftool")?;
    // Ubuntu's ldconfig is a script around the real one.
    let mut programs = ["/sbin/ldconfig.real", "/sbin/ldconfig"]
        .iter()
        .map(Path::new);
    let ldconfig = programs.find(|path| path.is_file()).unwrap();
    Some(vm.file(ldconfig, "/bin/ldconfig"))
}

fn run(script: &str) -> Option<VmOutcome> {
    let object = probed::programs()?;
    let probed = Probed::compile()?;
    let vm = machine()?
        // Some three hundred commands, each a process in a machine without KVM.
        .option("--limit", "400")
        .file(object.path(), "/root/program.o")
        .file(&probed.library(), "/lib/libprobed.so.1")
        .file(&probed.target(), "/bin/target");
    let setup = SETUP.replace("PROGRAMS", &PROGRAMS.join(" "));
    let script = script.replace("PLACE_OF_INNER", &probed.place_of_inner()?);
    Some(vm.run(&format!("{HELPERS}{setup}{script}")))
}

/// The rest of the lines that begin with a word.
fn lines<'a>(outcome: &'a VmOutcome, word: &str) -> Vec<&'a str> {
    let lines = outcome.ok().lines();
    lines.filter_map(|line| line.strip_prefix(word)).collect()
}

#[test]
fn every_probe_with_every_option_counts_while_it_is_attached() {
    let script = r#"
counts kprobe 0 "$on_entry" unlinks kprobe -f vfs_unlink
counts kretprobe 1 "$on_return" unlinks kprobe --fn-name vfs_unlink -m a=b --output json
# The first instruction after the one that the tracers use: its place depends on how the kernel was built.
for offset in 5 9; do
    counts kprobe-offset 0 "$on_entry" unlinks kprobe -f vfs_unlink -o "$offset" && break
done
counts fentry 4 "$traced_entry" unlinks fentry
counts fexit 5 "$traced_return" unlinks fexit -m a=b -o json
counts fentry-again 4 "$traced_entry" unlinks fentry -m a=b --output json

one_more() { [ "$($1)" -gt "$2" ]; }
# Entry and return are two: while a process is inside, only its entry has been counted.
ends() { # NAME ENTRY-HITS RETURN-HITS
    first=$($2) last=$($3)
    meanwhile sleep 1000
    sleeper=$!
    eventually one_more "$2" "$first"
    inside=$(($($3) - last))
    kill "$sleeper"
    wait "$sleeper" || true
    echo "COUNT $1 $(($($3) - last)) $inside"
}
entries() { hits 0; }
returns() { hits 1; }
first_link=$(attach "$on_entry" kprobe -f hrtimer_nanosleep)
last_link=$(attach "$on_return" kprobe -f hrtimer_nanosleep)
ends kretprobe-returns entries returns
bpfman detach "$first_link"
bpfman detach "$last_link"
bpfman load file --path program.o --programs \
    fentry:traced_entry:hrtimer_nanosleep fexit:traced_return:hrtimer_nanosleep >/tmp/sleeps
first_id=$(awk '$3 == "fentry" || $2 == "fentry" { print $1 }' /tmp/sleeps)
last_id=$(awk '$3 == "fexit" || $2 == "fexit" { print $1 }' /tmp/sleeps)
entries() { value "$first_id" hits 4; }
returns() { value "$first_id" hits 5; }
attach "$first_id" fentry >/dev/null
attach "$last_id" fexit >/dev/null
ends fexit-returns entries returns
bpfman unload "$first_id"
bpfman unload "$last_id"

counts uprobe-turn 2 "$at_entry" calls uprobe -t /bin/target -f turn
counts uretprobe-turn 3 "$at_return" calls uprobe -t /bin/target -f turn
counts uprobe 2 "$at_entry" calls uprobe -t /bin/target -f inner
counts uretprobe 3 "$at_return" calls uprobe --target /bin/target --fn-name inner --metadata a=b
counts library 2 "$at_entry" calls uprobe -t libprobed -f probed
counts library-version 3 "$at_return" calls uprobe -t libprobed.so.1 -f probed@PROBED_1
counts libc 2 "$at_entry" calls uprobe -t libc -f a64l
counts pid 2 "$at_entry" calls uprobe -t /bin/target -f inner -p "$pid"
counts library-pid 2 "$at_entry" calls uprobe -t libc -f a64l --pid "$pid"
counts pid-of-another 2 "$at_entry" calls uprobe -t libc -f a64l --pid $$
# As objdump tells where `inner` lies in the file.
counts offset 2 "$at_entry" calls uprobe -t /bin/target -o PLACE_OF_INNER
counts offset-return 3 "$at_return" calls uprobe -t /bin/target -o PLACE_OF_INNER

counts container 2 "$at_entry" container_calls uprobe -t /bin/inside -f inner -c "$container"
counts container-symlink 3 "$at_return" container_calls uprobe -t /opt/app -f inner --container-pid "$container"
counts container-library 2 "$at_entry" container_calls uprobe -t libprobed -f probed -c "$container"
counts container-pid 2 "$at_entry" container_calls uprobe -t libc -f a64l -c "$container" -p "$container"
counts not-in-container 2 "$at_entry" calls uprobe -t libprobed -f probed -c "$container"

# Two places at once, by one program.
first=$(attach "$at_entry" uprobe -t libprobed -f probed)
second=$(attach "$at_entry" uprobe -t /bin/target -f inner)
was=$(hits 2); calls; echo "COUNT twice $(($(hits 2) - was)) 0"
# The file that is probed goes, another comes in its place; the process still runs the old one.
cp /bin/target /bin/new && mv /bin/new /bin/target
cp /lib/libprobed.so.1 /lib/new && mv /lib/new /lib/libprobed.so.1
was=$(hits 2); calls; attached=$(($(hits 2) - was))
bpfman detach "$first"
bpfman detach "$second"
was=$(hits 2); calls; echo "COUNT replaced $attached $(($(hits 2) - was))"
counts mapped-but-replaced 2 "$at_entry" calls uprobe -t libprobed -f probed -p "$pid"
counts path-of-another-now 2 "$at_entry" calls uprobe -t /bin/target -f inner

# A process or a container that is gone does not stop detach.
link=$(attach "$at_entry" uprobe -t libprobed -f probed -c "$container" -p "$container")
exec 5>&- 6<&-
wait %2 || true
bpfman get link "$link" | grep 'Container PID'
bpfman detach "$link"
for id in "$on_entry" "$on_return" "$at_entry" "$at_return" "$traced_entry"; do bpfman unload "$id"; done
# Unloaded while it is attached.
link=$(attach "$traced_return" fexit)
bpfman unload "$traced_return"
left_behind | sed 's/^/LEFT /'
"#;
    let Some(outcome) = run(script) else { return };
    let counts = lines(&outcome, "COUNT ");
    // Name, events while it was attached, events afterwards.
    let expected = [
        "kprobe 3 0",
        "kretprobe 3 0",
        "kprobe-offset 3 0",
        "fentry 3 0",
        "fexit 3 0",
        "fentry-again 3 0",
        // Attached: how many returned; afterwards: how many before that.
        "kretprobe-returns 1 0",
        "fexit-returns 1 0",
        "uprobe-turn 3 0",
        // The last of three is still inside.
        "uretprobe-turn 2 0",
        "uprobe 3 0",
        "uretprobe 3 0",
        "library 3 0",
        "library-version 3 0",
        "libc 3 0",
        "pid 3 0",
        "library-pid 3 0",
        "pid-of-another 0 0",
        "offset 3 0",
        "offset-return 3 0",
        "container 3 0",
        "container-symlink 3 0",
        "container-library 3 0",
        "container-pid 3 0",
        "not-in-container 0 0",
        "twice 6 0",
        "replaced 6 0",
        "mapped-but-replaced 3 0",
        "path-of-another-now 0 0",
    ];
    assert_eq!(counts, expected, "{}", outcome.output);
    // Found by the metadata of the link.
    let selected = lines(&outcome, "SELECTED ");
    assert_eq!(
        selected,
        ["kretprobe 1", "fexit 1", "fentry-again 1", "uretprobe 1"]
    );
    let places = lines(&outcome, "PLACE ");
    for expected in [
        "kprobe kprobe on_entry vfs_unlink",
        "kretprobe kprobe on_return vfs_unlink",
        "fentry fentry traced_entry vfs_unlink",
        "fexit fexit traced_return vfs_unlink",
        "libc uprobe at_entry libc a64l",
        "container uprobe at_entry /bin/inside inner",
    ] {
        let found = places
            .iter()
            .any(|place| place.split_whitespace().eq(expected.split_whitespace()));
        assert!(found, "{expected}: {places:#?}");
    }
    assert_eq!(lines(&outcome, "LEFT "), Vec::<&str>::new());
}

#[test]
fn what_cannot_be_probed_says_why() {
    let script = r#"
say() { name=$1; shift; echo "SAID $name $(refused "$@")"; }
say unknown bpfman attach "$on_entry" kprobe -f vfs_unlnk
say nowhere bpfman attach "$on_entry" kprobe -f no_such_function_anywhere
say kretprobe-offset bpfman attach "$on_return" kprobe -f vfs_unlink -o 8
say boundary bpfman attach "$on_entry" kprobe -f vfs_unlink -o 1
say forbidden bpfman attach "$on_entry" kprobe -f int3_exception_notify
say library bpfman attach "$at_entry" uprobe -t libnothing -f f
say file bpfman attach "$at_entry" uprobe -t /bin/nothing -f f
say folder bpfman attach "$at_entry" uprobe -t /bin -f f
say name bpfman attach "$at_entry" uprobe -t ./target -f f
say no-elf bpfman attach "$at_entry" uprobe -t /etc/passwd -f f
say function bpfman attach "$at_entry" uprobe -t /bin/target -f iner
say outside bpfman attach "$at_entry" uprobe -t /bin/target -f inner -o 5000
say process bpfman attach "$at_entry" uprobe -t libc -f a64l -p 99999
say container bpfman attach "$at_entry" uprobe -t libc -f a64l -c 99999
say not-there bpfman attach "$at_entry" uprobe -t /bin/target -f inner -c "$container"
say no-kernel-function bpfman load file --path program.o --programs fentry:traced_entry:vfs_unlnk
bpfman attach "$traced_entry" fentry >/dev/null
say traced bpfman attach "$traced_entry" fentry
say hook bpfman attach "$traced_entry" fexit
bpfman list links | tail -n +2 | wc -l | sed 's/^/LINKS=/'
for id in $(bpfman list programs | tail -n +2 | awk '{ print $1 }'); do bpfman unload "$id"; done
left_behind | sed 's/^/LEFT /'
"#;
    let Some(outcome) = run(script) else { return };
    let said = lines(&outcome, "SAID ");
    let expected: [(&str, &[&str]); 18] = [
        (
            "unknown",
            &[
                "kernel function vfs_unlnk",
                "has no function",
                "did you mean `vfs_unlink`?",
            ],
        ),
        (
            "nowhere",
            &[
                "has no function `no_such_function_anywhere`",
                "/proc/kallsyms",
            ],
        ),
        (
            "kretprobe-offset",
            &["kretprobe", "takes no offset, and 8 was given", "--offset"],
        ),
        (
            "boundary",
            &[
                "takes no probe at vfs_unlink+0x1",
                "middle of an instruction",
            ],
        ),
        (
            "forbidden",
            &[
                "takes no probe at int3_exception_notify",
                "must not be probed",
            ],
        ),
        (
            "library",
            &[
                "no library `libnothing` in /etc/ld.so.cache",
                "absolute path",
            ],
        ),
        ("file", &["no file /bin/nothing"]),
        ("folder", &["/bin is no regular file"]),
        (
            "name",
            &["`./target` is neither an absolute path nor the name of a library"],
        ),
        ("no-elf", &["/etc/passwd", "no ELF file"]),
        (
            "function",
            &["has no function `iner`", "did you mean `inner`?"],
        ),
        ("outside", &["offset 5000 is not in `inner`, which has"]),
        ("process", &["no process 99999"]),
        ("container", &["no process 99999"]),
        ("not-there", &["no file /bin/target"]),
        (
            "no-kernel-function",
            &[
                "loading program.o",
                "`vfs_unlnk`",
                "did you mean `vfs_unlink`?",
            ],
        ),
        (
            "traced",
            &["kernel function vfs_unlink", "by link", "`bpfman detach"],
        ),
        ("hook", &["to fexit: it was loaded as fentry"]),
    ];
    for (name, words) in expected {
        let line = said
            .iter()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let line = line.unwrap_or_else(|| panic!("{name} is missing: {}", outcome.output));
        for word in words {
            assert!(line.contains(word), "{name}: no {word:?} in {line}");
        }
    }
    assert_eq!(outcome.value("LINKS"), "1");
    assert_eq!(lines(&outcome, "LEFT "), Vec::<&str>::new());
}

#[test]
fn the_examples_of_the_chapters_work_as_they_stand() {
    let Some(vm) = machine() else { return };
    chapters::work(
        vm,
        "ldconfig",
        &["kprobe", "uprobe", "fentry", "tracepoint"],
    );
}
