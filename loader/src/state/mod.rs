//! What the kernel and bpffs cannot tell: records in sled, behind one lock, with a journal of the change under way.

/// The lock, held. Functions that change or read state take it, so that forgetting the lock does not compile.
#[derive(Debug)]
pub struct Guard {}
