//! A thread that runs before those that it starts.

#![allow(unsafe_code)]

/// Does what starts threads with the calling thread ahead of them: they run where a processor is free, or once the
/// calling thread waits. Without CAP_SYS_NICE, or where somebody chose another policy than the default, nothing changes.
pub(crate) fn ahead<T>(start: impl FnOnce() -> T) -> T {
    let _ahead = Ahead::new();
    start()
}

/// The calling thread has the policy SCHED_FIFO until this is dropped; threads that it starts do not (sched(7),
/// SCHED_RESET_ON_FORK).
struct Ahead;

impl Ahead {
    fn new() -> Option<Self> {
        // SAFETY: it takes a number; 0 is the calling thread.
        let policy = unsafe { libc::sched_getscheduler(0) };
        (policy == libc::SCHED_OTHER && schedule(libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, 1))
            .then_some(Self)
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        schedule(libc::SCHED_OTHER, 0);
    }
}

fn schedule(policy: libc::c_int, sched_priority: libc::c_int) -> bool {
    let parameters = libc::sched_param { sched_priority };
    // SAFETY: the kernel only reads the parameters, which live until it returns; 0 is the calling thread.
    unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the calling thread.
    fn policy() -> libc::c_int {
        // SAFETY: it takes a number.
        unsafe { libc::sched_getscheduler(0) }
    }

    #[test]
    fn the_caller_is_ahead_only_meanwhile_and_threads_are_not() {
        let before = policy();
        let (meanwhile, started) = ahead(|| (policy(), std::thread::spawn(policy).join().unwrap()));
        // Without the right to it all stays as it is.
        let ahead = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
        assert!(meanwhile == ahead || meanwhile == before, "{meanwhile}");
        assert_eq!((started, policy()), (before, before));
    }

    #[test]
    fn a_panic_ends_it() {
        let before = policy();
        let panic = std::panic::catch_unwind(|| ahead(|| std::panic::resume_unwind(Box::new(()))));
        assert!(panic.is_err());
        assert_eq!(policy(), before);
    }
}
