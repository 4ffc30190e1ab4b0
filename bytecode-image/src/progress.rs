/// Who is told how a transfer goes. Called from one thread.
pub trait Progress: Sync {
    /// Once, when the sizes are known and before the first byte of them: how many bytes there are in all.
    /// Not called when nothing is transferred.
    fn start(&self, total_bytes: u64);
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
