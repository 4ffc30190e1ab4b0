/// Who is told how a transfer goes. Called from one thread.
pub trait Progress: Sync {
    /// Once, when the sizes are known and before the first byte of them: how many bytes there are in all.
    /// Not called when nothing is transferred.
    fn start(&self, total_bytes: u64);
    /// Before [`start`](Self::start), in a few words for people: which image, what of it, for which platform.
    fn label(&self, _what: &str) {}
    /// Something begins that takes a while and has no bytes to count, in a few words for people. It ends with the
    /// next one, with [`start`](Self::start) or with [`finish`](Self::finish).
    fn step(&self, _what: &str) {}
    /// This many bytes more are done.
    fn advance(&self, bytes: u64);
    /// Once after [`start`](Self::start), whether the transfer went well or failed.
    fn finish(&self);
}

impl Progress for () {
    fn start(&self, _total_bytes: u64) {}
    fn advance(&self, _bytes: u64) {}
    fn finish(&self) {}
}

/// A transfer that was started: ends it however its function is left.
pub(crate) struct Transfer<'a>(&'a dyn Progress);

impl<'a> Transfer<'a> {
    pub(crate) fn start(progress: &'a dyn Progress, total_bytes: u64) -> Self {
        progress.start(total_bytes);
        Self(progress)
    }
}

impl Drop for Transfer<'_> {
    fn drop(&mut self) {
        self.0.finish();
    }
}
