//! Where tests let the process die: before and after each write to the journal, and after it was cleared. Nothing in a
//! build for users.

/// Called by the journal at each of these moments.
pub(super) fn moment() {
    #[cfg(test)]
    crate::tests::kill::moment();
    #[cfg(feature = "failpoints")]
    die_at_the_moment_asked_for();
}

/// `BPFMAN_FAILPOINT=N`: the process is killed at its Nth moment, and nothing of it cleans up.
#[cfg(feature = "failpoints")]
fn die_at_the_moment_asked_for() {
    use std::sync::atomic::{AtomicU32, Ordering};

    static MOMENTS: AtomicU32 = AtomicU32::new(0);
    let now = MOMENTS.fetch_add(1, Ordering::Relaxed) + 1;
    let asked = std::env::var("BPFMAN_FAILPOINT").ok();
    if asked.and_then(|asked| asked.parse().ok()) == Some(now) {
        let _ =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}
