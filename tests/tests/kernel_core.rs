//! CO-RE on a real kernel, in a VM: flexible arrays, types of modules, what is missing, and tools that other people made.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "../../bytecode-object/tests/packages/mod.rs"]
mod packages;

use bpfman_tests::objects::Object;
use bpfman_tests::vm::{HELPERS, Vm};

const HEAD: &str = r#"
#include <bpf/bpf_core_read.h>
#define CORE __attribute__((preserve_access_index))
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 8);
    __type(key, __u32);
    __type(value, __u64);
} out SEC(".maps");
static __always_inline void put(__u32 key, __u64 value) { bpf_map_update_elem(&out, &key, &value, 0); }
"#;

/// Elements of a flexible array at the end of a struct, which the program declares shorter than the kernel has it.
const FLEXIBLE: &str = r#"
struct syscall_trace_enter { int nr; unsigned long args[]; } CORE;
struct upid { int nr; } CORE;
struct pid { unsigned int level; struct upid numbers[]; } CORE;
struct task_struct { struct pid *thread_pid; int tgid; } CORE;
SEC("tracepoint/syscalls/sys_enter_kill")
int on_kill(struct syscall_trace_enter *ctx)
{
    struct task_struct *task = (void *)bpf_get_current_task();

    put(0, ctx->args[0]);
    put(1, ctx->args[1]);
    put(2, BPF_CORE_READ(task, thread_pid, numbers[0].nr));
    put(3, BPF_CORE_READ(task, tgid));
    return 0;
}
"#;

/// Types of the module veth, which the kernel itself does not have, and of none.
const MODULES: &str = r#"
struct veth_priv { void *peer; int no_such_member; } CORE;
struct veth_rq___mine { void *dev; } CORE;
struct no_such_type { int member; } CORE;
SEC("tracepoint/syscalls/sys_enter_kill")
int on_kill(void *ctx)
{
    put(0, bpf_core_type_exists(struct veth_priv));
    put(1, bpf_core_type_size(struct veth_priv));
    put(2, bpf_core_field_exists(struct veth_priv, peer));
    put(3, bpf_core_field_exists(struct veth_priv, no_such_member));
    put(4, bpf_core_type_size(struct veth_rq___mine));
    put(5, bpf_core_type_exists(struct no_such_type));
    put(6, bpf_core_type_size(struct no_such_type));
    put(7, bpf_core_type_id_kernel(struct no_such_type));
    return 0;
}
"#;

/// What no kernel has, with and without a guard.
const MISSING: &str = r#"
struct task_struct { int no_such_field; } CORE;
struct no_such_type { int member; } CORE;
enum bpf_map_type___mine { BPF_MAP_TYPE_NO_SUCH = 1 };
static __noinline int deep(void)
{
    struct task_struct *task = (void *)bpf_get_current_task();

    return BPF_CORE_READ(task, no_such_field);
}
SEC("tracepoint/syscalls/sys_enter_kill")
int field(void *ctx) { return deep(); }
SEC("tracepoint/syscalls/sys_enter_kill")
int type(void *ctx)
{
    struct no_such_type *task = (void *)bpf_get_current_task();

    return BPF_CORE_READ(task, member);
}
SEC("tracepoint/syscalls/sys_enter_kill")
int value(void *ctx) { return bpf_core_enum_value(enum bpf_map_type___mine, BPF_MAP_TYPE_NO_SUCH); }
SEC("tracepoint/syscalls/sys_enter_kill")
int guarded(void *ctx)
{
    struct task_struct *task = (void *)bpf_get_current_task();

    if (bpf_core_field_exists(task->no_such_field))
        return BPF_CORE_READ(task, no_such_field);
    if (bpf_core_enum_value_exists(enum bpf_map_type___mine, BPF_MAP_TYPE_NO_SUCH))
        return bpf_core_enum_value(enum bpf_map_type___mine, BPF_MAP_TYPE_NO_SUCH);
    put(0, 7);
    return 0;
}
"#;

fn compile(source: &str) -> Option<Object> {
    Object::compile(&format!("{HEAD}{source}"))
}

#[test]
fn programs_read_what_the_running_kernel_has() {
    let (Some(vm), Some(flexible), Some(modules), Some(missing)) = (
        Vm::new().and_then(|vm| vm.tool("bpftool")),
        compile(FLEXIBLE),
        compile(MODULES),
        compile(MISSING),
    ) else {
        return;
    };
    let outcome = vm
        .file(flexible.path(), "/root/flexible.o")
        .file(modules.path(), "/root/modules.o")
        .file(missing.path(), "/root/missing.o")
        .run(&format!(
            r#"{HELPERS}
id=$(load flexible.o tracepoint:on_kill)
link=$(attach "$id" tracepoint -t syscalls/sys_enter_kill)
# A process that ends shows what it is.
sh -c 'echo "PID=$$"; kill -0 1'
bpfman detach "$link"
for key in 0 1 2 3; do echo "FLEXIBLE$key=$(value "$id" out $key)"; done

id=$(load modules.o tracepoint:on_kill)
attach "$id" tracepoint -t syscalls/sys_enter_kill >/dev/null
kill -0 $$
for key in 0 1 2 3 4 5 6 7; do echo "MODULE$key=$(value "$id" out $key)"; done
size() {{ bpftool btf dump file /sys/kernel/btf/veth -B /sys/kernel/btf/vmlinux | sed -n "s/.*STRUCT '$1' size=\([0-9]*\).*/\1/p"; }}
echo "SIZE1=$(size veth_priv)"
echo "SIZE4=$(size veth_rq)"

echo "FIELD=$(refused bpfman load file --path missing.o --programs tracepoint:field)"
echo "TYPE=$(refused bpfman load file --path missing.o --programs tracepoint:type)"
echo "VALUE=$(refused bpfman load file --path missing.o --programs tracepoint:value)"
id=$(load missing.o tracepoint:guarded)
attach "$id" tracepoint -t syscalls/sys_enter_kill >/dev/null
kill -0 $$
echo "GUARDED=$(value "$id" out 0)"
"#
        ));
    assert_eq!(outcome.status, Some(0), "{outcome:#?}");
    let pid = outcome.value("PID");
    assert_eq!(outcome.value("FLEXIBLE0"), "1");
    assert_eq!(outcome.value("FLEXIBLE1"), "0");
    assert_eq!(outcome.value("FLEXIBLE2"), pid);
    assert_eq!(outcome.value("FLEXIBLE3"), pid);
    for (key, expected) in [
        ("MODULE0", "1"),
        ("MODULE1", outcome.value("SIZE1")),
        ("MODULE2", "1"),
        ("MODULE3", "0"),
        ("MODULE4", outcome.value("SIZE4")),
        ("MODULE5", "0"),
        ("MODULE6", "0"),
        ("MODULE7", "0"),
    ] {
        assert_eq!(outcome.value(key), expected, "{key}");
    }
    for (name, expected) in [
        (
            "FIELD",
            "cannot load program `field`: kernel type `task_struct` has no field `no_such_field`",
        ),
        (
            "TYPE",
            "cannot load program `type`: the kernel has no type `struct no_such_type`",
        ),
        (
            "VALUE",
            "cannot load program `value`: kernel enum `bpf_map_type` has no value `BPF_MAP_TYPE_NO_SUCH`",
        ),
    ] {
        let message = outcome.value(name);
        assert!(message.contains(expected), "{message}");
        assert!(message.contains("bpf_core_field_exists()"), "{message}");
    }
    assert_eq!(outcome.value("GUARDED"), "7");
}

/// A tool of libbpf-tools, its programs, where the first of them is attached, what makes an event, and the map in which
/// the program then has an entry.
const TOOLS: [(&str, &str, &str, &str, &str); 5] = [
    (
        "opensnoop",
        "tracepoint__syscalls__sys_enter_openat tracepoint__syscalls__sys_exit_openat \
         tracepoint__syscalls__sys_enter_open tracepoint__syscalls__sys_exit_open",
        "syscalls/sys_enter_openat",
        "sh -c 'exec cat /etc/passwd' >/dev/null 2>&1 || true",
        "start",
    ),
    (
        "execsnoop",
        "tracepoint__syscalls__sys_enter_execve tracepoint__syscalls__sys_exit_execve",
        "syscalls/sys_enter_execve",
        "sh -c 'exec cat /proc/version' >/dev/null",
        "execs",
    ),
    (
        "statsnoop",
        "handle_statfs_entry handle_statfs_return handle_newstat_entry handle_newstat_return handle_statx_entry \
         handle_statx_return handle_newfstatat_entry handle_newfstatat_return handle_newlstat_entry \
         handle_newlstat_return",
        "syscalls/sys_enter_statfs",
        "stat -f / >/dev/null",
        "values",
    ),
    (
        "sigsnoop",
        "kill_entry kill_exit tkill_entry tkill_exit tgkill_entry tgkill_exit sig_trace",
        "syscalls/sys_enter_kill",
        "sh -c 'kill -10 $$' || true",
        "values",
    ),
    (
        "mountsnoop",
        "mount_entry mount_exit umount_entry umount_exit",
        "syscalls/sys_enter_mount",
        "mkdir /tmp/mounted; mount -t tmpfs tmpfs /tmp/mounted",
        "args",
    ),
];

#[test]
fn tools_of_libbpf_load_and_count() {
    let packages: Vec<_> = packages::TRIXIE
        .into_iter()
        .filter(|(_, package)| *package == "libbpf-tools")
        .collect();
    let (Some(mut vm), Some(objects)) = (
        Vm::new().and_then(|vm| vm.tool("bpftool")),
        packages::objects(&packages),
    ) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let mut script = HELPERS.to_owned();
    for (tool, programs, tracepoint, event, map) in TOOLS {
        let suffix = format!("/{tool}-libbpf");
        let (bytes, _) = objects
            .iter()
            .find(|(_, name)| name.ends_with(&suffix) || name.ends_with(&format!("/{tool}")))
            .unwrap();
        let file = folder.path().join(tool);
        std::fs::write(&file, bytes).unwrap();
        vm = vm.file(&file, &format!("/root/{tool}.o"));
        let programs: String = programs
            .split_whitespace()
            .map(|program| format!(" tracepoint:{program}"))
            .collect();
        script += &format!(
            r#"
bpfman load file --path {tool}.o --programs{programs} >/tmp/loaded
id=$(awk '$1 ~ /^[0-9]+$/ {{ print $1; exit }}' /tmp/loaded)
attach "$id" tracepoint -t {tracepoint} >/dev/null
{event}
echo "{tool}=$(bpftool map dump pinned "/run/bpfman/fs/maps/$id/{map}" | sed -n 's/^Found \([0-9]*\) element.*/\1/p; s/^key:.*/entry/p; s/.*"key":.*/entry/p' | tail -n 1)"
"#
        );
    }
    let outcome = vm.option("--limit", "200").run(&script);
    assert_eq!(outcome.status, Some(0), "{outcome:#?}");
    for (tool, ..) in TOOLS {
        let entries = outcome.value(tool);
        assert!(
            !entries.is_empty() && entries != "0",
            "{tool}: {}",
            outcome.output
        );
    }
}
