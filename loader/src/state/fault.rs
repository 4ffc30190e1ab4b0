//! Where tests let an operation on a file of the runtime folder fail. Nothing in a build for users.

use std::io;

/// What is about to be done to a file or folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Opening a file or folder that exists.
    Open,
    /// Opening a file that may have to be made.
    Create,
    MakeFolder,
    Read,
    /// Writing to a file that has no room yet.
    Write,
    /// Writing to a file whose room was set aside.
    Append,
    /// Setting room aside, or making the file for it.
    Reserve,
    Truncate,
    Rename,
    Remove,
}

/// Called before each of them.
pub(super) fn check(operation: Operation) -> io::Result<()> {
    #[cfg(test)]
    return crate::tests::disk::check(operation);
    #[cfg(not(test))]
    {
        let _ = operation;
        Ok(())
    }
}
