//! eBPF objects, compiled when a test needs them.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::lanes;

/// The head of every source: the types and helpers that a program needs.
pub(crate) const HEAD: &str = "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\nchar _license[] SEC(\"license\") = \"GPL\";\n";

/// Programs of every kind that has steps of its own. Each counts its runs in the one entry of the map `seen`, then lets
/// the packet go on, or returns `RETURNS` where it is set.
const COUNTING: &str = r#"
#include <linux/pkt_cls.h>
volatile const __s32 RETURNS = 99;
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u64);
} seen SEC(".maps");
static __always_inline int count(int verdict)
{
    __u32 key = 0;
    __u64 *often = bpf_map_lookup_elem(&seen, &key);
    if (often)
        __sync_fetch_and_add(often, 1);
    return verdict;
}
static __always_inline int look(void *data, void *end, int verdict)
{
    unsigned char *packet = data;
    if (RETURNS != 99)
        verdict = RETURNS;
    /* IPv4, ICMP, echo request */
    if (ECHO_REQUESTS && (data + 35 > end || packet[12] != 8 || packet[13] || packet[23] != 1 || packet[34] != 8))
        return verdict;
    return count(verdict);
}
#define LOOK(verdict) look((void *)(long)ctx->data, (void *)(long)ctx->data_end, verdict)
SEC("xdp")
int on_xdp(struct xdp_md *ctx) { return LOOK(XDP_PASS); }
SEC("xdp.frags")
int on_frags(struct xdp_md *ctx) { return LOOK(XDP_PASS); }
SEC("tc")
int on_tc(struct __sk_buff *ctx) { return LOOK(TC_ACT_OK); }
SEC("tcx/ingress")
int on_tcx(struct __sk_buff *ctx) { return LOOK(-1); }
SEC("tracepoint/syscalls/sys_enter_kill")
int on_kill(void *ctx) { return count(0); }
SEC("tracepoint/syscalls/sys_enter_kill")
int on_kill_with_a_long_name(void *ctx) { return count(0); }
"#;

/// What the programs of [`Object::counting`] count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packets {
    /// Whatever passes, to tell that a program runs at all.
    All,
    /// Echo requests of ping, to tell how often: what else comes (neighbours, routers) may come at any moment.
    EchoRequests,
}

/// A compiled object in a folder of its own.
#[derive(Debug)]
pub struct Object {
    path: PathBuf,
    _folder: TempDir,
}

impl Object {
    /// Compiles a C source, headers and licence put before it, or `None` after the test was skipped for want of clang.
    ///
    /// # Panics
    ///
    /// When clang refuses the source.
    #[must_use]
    pub fn compile(source: &str) -> Option<Self> {
        let folder = TempDir::new().expect("a temporary folder can be made");
        let file = folder.path().join("program.bpf.c");
        std::fs::write(&file, format!("{HEAD}{source}")).expect("the source can be written");
        Self::compile_file(&file, &[], folder)
    }

    /// Compiles a C source as it is, with more options for clang, or `None` after the test was skipped for want of it.
    ///
    /// # Panics
    ///
    /// When clang refuses the source.
    #[must_use]
    pub fn compile_whole(source: &str, options: &[&str]) -> Option<Self> {
        let folder = TempDir::new().expect("a temporary folder can be made");
        let file = folder.path().join("program.bpf.c");
        std::fs::write(&file, source).expect("the source can be written");
        Self::compile_file(&file, options, folder)
    }

    /// Programs that count packets (`on_xdp`, `on_frags`, `on_tc`, `on_tcx`) or calls of kill(2) (`on_kill`,
    /// `on_kill_with_a_long_name`) in the one entry of the map `seen`, and let them pass or return `RETURNS` where that
    /// is set; or `None` after the test was skipped.
    #[must_use]
    pub fn counting(packets: Packets) -> Option<Self> {
        Self::counting_and(packets, "")
    }

    /// The same with more programs behind them, which count by `LOOK(…)`.
    #[must_use]
    pub fn counting_and(packets: Packets, more: &str) -> Option<Self> {
        let filter = u8::from(packets == Packets::EchoRequests);
        Self::compile(&format!("#define ECHO_REQUESTS {filter}\n{COUNTING}{more}"))
    }

    /// Compiles the example of that name, or `None` after the test was skipped.
    #[must_use]
    pub fn example(name: &str) -> Option<Self> {
        let file = format!("examples/{name}/{}.bpf.c", name.replace('-', "_"));
        let folder = TempDir::new().expect("a temporary folder can be made");
        Self::compile_file(&lanes::repository().join(file), &[], folder)
    }

    /// A host program of a shared library or executable kind: an ELF file that is no eBPF object.
    #[must_use]
    pub fn of_the_host() -> PathBuf {
        std::env::current_exe().expect("the test knows its own file")
    }

    fn compile_file(source: &Path, options: &[&str], folder: TempDir) -> Option<Self> {
        let path = folder.path().join("bpf_x86_bpfel.o");
        let order = if cfg!(target_endian = "little") {
            "bpfel"
        } else {
            "bpfeb"
        };
        clang(source, order, options, &path)?;
        Some(Self {
            path,
            _folder: folder,
        })
    }
    /// The object's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The object's file, as an argument.
    #[must_use]
    pub fn arg(&self) -> &str {
        self.path
            .to_str()
            .expect("a temporary folder's name is text")
    }

    /// The object's bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.path).expect("the object can be read")
    }
}

/// Compiles a source for a byte order (`bpfel`, `bpfeb`), or `None` after the test was skipped for want of clang.
pub(crate) fn clang(source: &Path, order: &str, defines: &[&str], into: &Path) -> Option<()> {
    let clang = lanes::tool("clang")?;
    let headers = format!("/usr/include/{}-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(clang)
        .args(["-target", order, "-O2", "-g", "-mcpu=v3"])
        .args(["-Wall", "-Werror", "-idirafter", &headers])
        .args(defines)
        .arg("-c")
        .arg(source)
        .arg("-o")
        .arg(into)
        .output()
        .expect("clang can be run");
    assert!(
        output.status.success(),
        "clang: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Some(())
}
