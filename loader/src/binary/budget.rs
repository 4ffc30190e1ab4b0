use std::cell::Cell;
use std::ops::Range;

use object::ReadRef;

/// How much may be read.
#[derive(Debug)]
pub(super) struct Budget {
    left: Cell<u64>,
    refused: Cell<Option<u64>>,
}

impl Budget {
    pub(super) fn new(bytes: u64) -> Self {
        Self {
            left: Cell::new(bytes),
            refused: Cell::new(None),
        }
    }

    /// Bytes of the first read that was too large.
    pub(super) fn refused(&self) -> Option<u64> {
        self.refused.get()
    }

    fn spend(&self, bytes: u64) -> Result<(), ()> {
        match self.left.get().checked_sub(bytes) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => {
                self.refused.set(self.refused.get().or(Some(bytes)));
                Err(())
            }
        }
    }
}

/// Data of which only so much is read: the headers of a file may claim tables as large as the file, and a file with
/// holes is as large as it likes.
#[derive(Debug)]
pub(super) struct Capped<'b, R> {
    data: R,
    budget: &'b Budget,
}

impl<'b, R> Capped<'b, R> {
    pub(super) fn new(data: R, budget: &'b Budget) -> Self {
        Self { data, budget }
    }
}

impl<R: Copy> Clone for Capped<'_, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R: Copy> Copy for Capped<'_, R> {}

impl<'data, R: ReadRef<'data>> ReadRef<'data> for Capped<'_, R> {
    fn len(self) -> Result<u64, ()> {
        self.data.len()
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'data [u8], ()> {
        self.budget.spend(size)?;
        self.data.read_bytes_at(offset, size)
    }

    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> Result<&'data [u8], ()> {
        self.budget.spend(range.end.saturating_sub(range.start))?;
        self.data.read_bytes_at_until(range, delimiter)
    }
}
