use crate::{ByteOrder, ObjectError};

/// Longest name of a program, map or section that is taken, in bytes: a path and a symbol fit
/// (`uprobe/<PATH_MAX>:<KSYM_NAME_LEN>`), and a file cannot make its reader hold many times its own size.
pub(crate) const MAX_NAME_BYTES: usize = 4096 + 512;

/// Reads numbers and strings of one section in its byte order; everything out of range is an error.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    order: ByteOrder,
    section: &'a str,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8], order: ByteOrder, section: &'a str) -> Self {
        Self {
            bytes,
            order,
            section,
        }
    }

    /// No bytes, of the same section.
    pub(crate) fn empty(&self) -> Self {
        Self {
            bytes: &[],
            ..*self
        }
    }

    pub(crate) fn order(&self) -> ByteOrder {
        self.order
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn u16(&self, at: usize) -> Result<u16, ObjectError> {
        let bytes = self.array(at)?;
        Ok(match self.order {
            ByteOrder::Little => u16::from_le_bytes(bytes),
            ByteOrder::Big => u16::from_be_bytes(bytes),
        })
    }

    pub(crate) fn u32(&self, at: usize) -> Result<u32, ObjectError> {
        let bytes = self.array(at)?;
        Ok(match self.order {
            ByteOrder::Little => u32::from_le_bytes(bytes),
            ByteOrder::Big => u32::from_be_bytes(bytes),
        })
    }

    /// A `u32` that is an offset or a length.
    pub(crate) fn size(&self, at: usize) -> Result<usize, ObjectError> {
        Ok(self.u32(at)? as usize)
    }

    /// `length` bytes from `at`, as a section of their own.
    pub(crate) fn range(&self, at: usize, length: usize) -> Result<Self, ObjectError> {
        let bytes = at
            .checked_add(length)
            .and_then(|end| self.bytes.get(at..end))
            .ok_or_else(|| self.outside(at, length))?;
        Ok(Self { bytes, ..*self })
    }

    /// The string from `at` to its NUL.
    pub(crate) fn string(&self, at: usize) -> Result<&'a str, ObjectError> {
        std::str::from_utf8(self.bytes_until_nul(at)?)
            .map_err(|_| self.damaged(&format!("the string at {at} is not UTF-8")))
    }

    /// The bytes from `at` to a NUL.
    pub(crate) fn bytes_until_nul(&self, at: usize) -> Result<&'a [u8], ObjectError> {
        let rest = self.bytes.get(at..).ok_or_else(|| self.outside(at, 1))?;
        let window = rest.get(..=MAX_NAME_BYTES).unwrap_or(rest);
        window
            .iter()
            .position(|&byte| byte == 0)
            .and_then(|end| window.get(..end))
            .ok_or_else(|| {
                self.damaged(&format!(
                    "no string of at most {MAX_NAME_BYTES} bytes at {at}"
                ))
            })
    }

    /// The two bytes from `at`; zeros after the end and after a NUL.
    pub(crate) fn pair(&self, at: usize) -> [u8; 2] {
        match self.bytes.get(at..) {
            Some([0, ..] | []) | None => [0, 0],
            Some([first, second, ..]) => [*first, *second],
            Some([first]) => [*first, 0],
        }
    }

    /// Whether `text` and its NUL stand at `at`, without a search for the end of a hostile string.
    pub(crate) fn has_string(&self, at: usize, text: &str) -> Result<bool, ObjectError> {
        let rest = self.bytes.get(at..).ok_or_else(|| self.outside(at, 1))?;
        Ok(rest
            .strip_prefix(text.as_bytes())
            .is_some_and(|after| after.first() == Some(&0)))
    }

    pub(crate) fn damaged(&self, what: &str) -> ObjectError {
        ObjectError::Damaged {
            what: format!("{}: {what}", self.section),
        }
    }

    fn outside(&self, at: usize, length: usize) -> ObjectError {
        self.damaged(&format!("{length} bytes at {at} of {}", self.bytes.len()))
    }

    fn array<const N: usize>(&self, at: usize) -> Result<[u8; N], ObjectError> {
        at.checked_add(N)
            .and_then(|end| self.bytes.get(at..end))
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(|| self.outside(at, N))
    }
}
