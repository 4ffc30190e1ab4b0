/* Runs a command and interferes with its system calls, those of all its threads, from the start of its main function on.
 *
 *   tracer LOG COMMAND...              writes a line per call to LOG: "file" for calls that change files, "read" for those
 *                                      that read them, "change" for others that change something, "other" for the rest
 *   tracer kill N COMMAND...           kills it before its Nth call
 *   tracer fail N ERRNO COMMAND...     lets its Nth call that changes or reads files fail
 *
 * Ends with the command's status, 128 and the signal where one ended it.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

/* Threads in the middle of a call that is to fail. */
static pid_t failing;

static const char *kind(const struct __ptrace_syscall_info *call)
{
    switch (call->entry.nr) {
    case SYS_openat:
        return call->entry.args[2] & O_CREAT ? "file" : "read";
    case SYS_fallocate: case SYS_ftruncate: case SYS_mkdirat: case SYS_unlinkat: case SYS_renameat2: case SYS_pwrite64:
    case SYS_write: case SYS_linkat: case SYS_fchmod: case SYS_fchmodat: case SYS_fsync: case SYS_fdatasync:
    case SYS_flock: case SYS_renameat:
#ifdef SYS_open
    case SYS_mkdir: case SYS_unlink: case SYS_rmdir: case SYS_rename: case SYS_chmod:
#endif
        return "file";
    case SYS_read: case SYS_pread64: case SYS_fstat: case SYS_newfstatat: case SYS_statx: case SYS_getdents64:
        return "read";
    case SYS_bpf: case SYS_mount: case SYS_perf_event_open: case SYS_ioctl: case SYS_sendto: case SYS_sendmsg:
    case SYS_close: case SYS_exit_group:
        return "change";
    default:
        return "other";
    }
}

/* Whether a call works on an event counter or a socket, which is not a file. */
static int not_on_a_file(pid_t thread, const struct __ptrace_syscall_info *call)
{
    char link[64], target[16];
    switch (call->entry.nr) {
    case SYS_write: case SYS_read: case SYS_fstat: case SYS_pread64: case SYS_pwrite64:
        break;
    default:
        return 0;
    }
    snprintf(link, sizeof(link), "/proc/%d/fd/%d", thread, (int)call->entry.args[0]);
    ssize_t length = readlink(link, target, sizeof(target));
    return length > 7 && (!memcmp(target, "anon_in", 7) || !memcmp(target, "socket:", 7));
}

/* Lets the call that the thread is about to make be none. */
static int skip(pid_t thread)
{
#if defined(__x86_64__)
    struct user_regs_struct registers;
    if (ptrace(PTRACE_GETREGS, thread, 0, &registers))
        return -1;
    registers.orig_rax = -1;
    return ptrace(PTRACE_SETREGS, thread, 0, &registers);
#elif defined(__aarch64__)
    int none = -1;
    struct iovec part = {&none, sizeof(none)};
    return ptrace(PTRACE_SETREGSET, thread, (void *)NT_ARM_SYSTEM_CALL, &part);
#else
    return -1;
#endif
}

static int answer(pid_t thread, long result)
{
#if defined(__x86_64__)
    struct user_regs_struct registers;
    if (ptrace(PTRACE_GETREGS, thread, 0, &registers))
        return -1;
    registers.rax = result;
    return ptrace(PTRACE_SETREGS, thread, 0, &registers);
#elif defined(__aarch64__)
    struct user_regs_struct registers;
    struct iovec part = {&registers, sizeof(registers)};
    if (ptrace(PTRACE_GETREGSET, thread, (void *)NT_PRSTATUS, &part))
        return -1;
    registers.regs[0] = result;
    return ptrace(PTRACE_SETREGSET, thread, (void *)NT_PRSTATUS, &part);
#else
    return -1;
#endif
}

int main(int argc, char **argv)
{
    enum { LOG, KILL, FAIL } mode = LOG;
    long at = 0, error = 0, count = 0;
    FILE *log = NULL;
    int first = 2, began = 0;

    if (argc > 3 && !strcmp(argv[1], "kill")) {
        mode = KILL;
        at = atol(argv[2]);
        first = 3;
    } else if (argc > 4 && !strcmp(argv[1], "fail")) {
        mode = FAIL;
        at = atol(argv[2]);
        error = atol(argv[3]);
        first = 4;
    } else if (argc < 3 || !(log = fopen(argv[1], "we"))) {
        fprintf(stderr, "usage: tracer LOG | kill N | fail N ERRNO COMMAND...\n");
        return 125;
    }
    pid_t child = fork();
    if (child < 0)
        return 125;
    if (!child) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        execv(argv[first], argv + first);
        _exit(127);
    }
    int status;
    if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status))
        return 125;
    ptrace(PTRACE_SETOPTIONS, child, 0,
           PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL | PTRACE_O_TRACEEXEC);
    ptrace(PTRACE_SYSCALL, child, 0, 0);
    for (;;) {
        pid_t thread = waitpid(-1, &status, __WALL);
        if (thread < 0)
            return 125;
        if (WIFEXITED(status) || WIFSIGNALED(status)) {
            if (thread != child)
                continue;
            if (log)
                fclose(log);
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        }
        int signal = WSTOPSIG(status);
        if (signal == (SIGTRAP | 0x80)) {
            struct __ptrace_syscall_info call = {0};
            ptrace(PTRACE_GET_SYSCALL_INFO, thread, (void *)sizeof(call), &call);
            if (call.op == PTRACE_SYSCALL_INFO_ENTRY) {
                /* The first call of a main function in Rust; before it are those of the dynamic linker. */
                if (!began && call.entry.nr == SYS_sigaltstack)
                    began = 1;
                if (began) {
                    const char *what = not_on_a_file(thread, &call) ? "other" : kind(&call);
                    if (log)
                        fprintf(log, "%s\n", what);
                    if (mode == FAIL && strcmp(what, "file") && strcmp(what, "read"))
                        count--;
                    if (++count == at && mode == KILL) {
                        kill(child, SIGKILL);
                        at = -1;
                    } else if (count == at && mode == FAIL) {
                        failing = thread;
                        at = -1;
                        if (skip(thread))
                            return 125;
                    }
                }
            } else if (failing == thread) {
                failing = 0;
                if (answer(thread, -error))
                    return 125;
            }
            signal = 0;
        } else if (signal == SIGTRAP || (signal == SIGSTOP && status >> 16 == 0 && thread != child)) {
            /* A new thread, or the program's start. */
            signal = 0;
        }
        ptrace(PTRACE_SYSCALL, thread, 0, signal);
    }
}
