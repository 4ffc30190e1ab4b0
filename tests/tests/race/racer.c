/* Changes one file of a store at one moment of a command.
 *
 *   racer NUMBER BACK ACTION SOURCE TARGET COUNT -- COMMAND…
 *
 * Runs COMMAND under ptrace. From its first open of something below the folder of TARGET's store (STORE in the
 * environment) on, it counts the entries and exits of every open, read, rename, stat and lock. At the NUMBERth it changes
 * TARGET; BACK of them later it puts the old content back (0: never). It writes to COUNT how many there were, and exits
 * as COMMAND does, with 99 when that takes longer than 30 s.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/ptrace.h>

static pid_t child;
static const char *target;
static char old[1 << 22];
static ssize_t old_length;

static void die(const char *what)
{
    perror(what);
    exit(98);
}

static void on_alarm(int signal)
{
    (void)signal;
    kill(child, SIGKILL);
    _exit(99);
}

static ssize_t content(const char *path, char *buffer, size_t size)
{
    int file = open(path, O_RDONLY);
    if (file < 0)
        die(path);
    ssize_t length = read(file, buffer, size);
    close(file);
    return length;
}

static void write_file(const char *path, int flags, const char *bytes, ssize_t length)
{
    int file = open(path, O_WRONLY | flags, 0644);
    if (file < 0 || write(file, bytes, length) != length || ftruncate(file, length))
        die(path);
    close(file);
}

static void change(const char *action, const char *source)
{
    static char bytes[1 << 22];
    char new[4096];
    snprintf(new, sizeof(new), "%s.new", target);
    if (!strcmp(action, "write")) {
        write_file(target, 0, bytes, content(source, bytes, sizeof(bytes)));
    } else if (!strcmp(action, "truncate")) {
        if (truncate(target, 0))
            die("truncate");
    } else if (!strcmp(action, "rename")) {
        write_file(new, O_CREAT, bytes, content(source, bytes, sizeof(bytes)));
        if (rename(new, target))
            die("rename");
    } else if (!strcmp(action, "link")) {
        if (symlink(source, new) || rename(new, target))
            die("link");
    } else if (!strcmp(action, "fifo")) {
        if (mkfifo(new, 0666) || rename(new, target))
            die("fifo");
    } else if (!strcmp(action, "remove")) {
        if (unlink(target))
            die("unlink");
    } else {
        die(action);
    }
}

static void put_back(const char *action)
{
    char new[4096];
    if (!strcmp(action, "write") || !strcmp(action, "truncate")) {
        write_file(target, 0, old, old_length);
        return;
    }
    snprintf(new, sizeof(new), "%s.new", target);
    write_file(new, O_CREAT, old, old_length);
    if (rename(new, target))
        die("rename back");
}

static int counts(unsigned long number)
{
    switch (number) {
#ifdef SYS_open
    case SYS_open:
    case SYS_rename:
#endif
#ifdef SYS_newfstatat
    case SYS_newfstatat:
#endif
    case SYS_openat:
    case SYS_openat2:
    case SYS_read:
    case SYS_readv:
    case SYS_pread64:
    case SYS_statx:
    case SYS_flock:
#ifdef SYS_renameat
    case SYS_renameat:
#endif
    case SYS_renameat2:
        return 1;
    }
    return 0;
}

/* Whether a thread is about to open something below the store. */
static int opens(pid_t thread, const struct ptrace_syscall_info *info, const char *store)
{
    char path[4096] = "";
    if (info->entry.nr != SYS_openat && info->entry.nr != SYS_openat2)
        return 0;
    struct iovec here = { path, strlen(store) }, there = { (void *)info->entry.args[1], strlen(store) };
    return process_vm_readv(thread, &here, 1, &there, 1, 0) == (ssize_t)strlen(store) && !strncmp(path, store, strlen(store));
}

int main(int argc, char **argv)
{
    const char *store = getenv("STORE");
    if (argc < 9 || !store)
        return 98;
    long number = atol(argv[1]), back = atol(argv[2]), count = 0;
    const char *action = argv[3], *source = argv[4];
    target = argv[5];
    old_length = content(target, old, sizeof(old));
    child = fork();
    if (child < 0)
        die("fork");
    if (!child) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        execvp(argv[8], argv + 8);
        die(argv[8]);
    }
    int status, result = 98, begun = 0;
    if (waitpid(child, &status, 0) != child)
        die("waitpid");
    signal(SIGALRM, on_alarm);
    alarm(30);
    ptrace(PTRACE_SETOPTIONS, child, 0,
           PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC |
               PTRACE_O_EXITKILL);
    ptrace(PTRACE_SYSCALL, child, 0, 0);
    for (;;) {
        pid_t thread = waitpid(-1, &status, __WALL);
        if (thread < 0 && errno == ECHILD)
            break;
        if (thread < 0)
            continue;
        if (WIFEXITED(status) || WIFSIGNALED(status)) {
            if (thread == child)
                result = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
            continue;
        }
        int deliver = 0;
        if (WSTOPSIG(status) == (SIGTRAP | 0x80)) {
            struct ptrace_syscall_info info;
            static unsigned long last[1 << 22];
            memset(&info, 0, sizeof(info));
            if (ptrace(PTRACE_GET_SYSCALL_INFO, thread, sizeof(info), &info) > 0) {
                if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
                    last[thread & 0x3fffff] = info.entry.nr;
                    begun |= opens(thread, &info, store);
                }
                if (begun && counts(last[thread & 0x3fffff])) {
                    count++;
                    if (count == number)
                        change(action, source);
                    else if (back && count == number + back)
                        put_back(action);
                }
            }
        } else if (WSTOPSIG(status) != SIGTRAP && WSTOPSIG(status) != SIGSTOP) {
            deliver = WSTOPSIG(status);
        }
        ptrace(PTRACE_SYSCALL, thread, 0, deliver);
    }
    FILE *file = fopen(argv[6], "w");
    if (!file || fprintf(file, "%ld\n", count) < 0 || fclose(file))
        die(argv[6]);
    return result;
}
