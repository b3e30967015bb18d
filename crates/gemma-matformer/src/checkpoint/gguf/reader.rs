//! [`Reader`]: a cursor over bytes that nobody has vetted, and [`Size`], the one type for counts they claim.
//!
//! Every number that becomes a length, an offset or a count is a [`Size`], whose arithmetic fails instead of
//! wrapping. No other file of this reader does arithmetic on numbers from the file.

use std::ops::Range;

/// Longest string that is accepted, in bytes; a tokenizer.json of the largest vocabularies fits.
pub const MAX_STRING_BYTES: u64 = 64 << 20;

/// A count or byte offset that the file claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Size(pub(crate) u64);

/// Where reading stopped and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) at: u64,
    pub(crate) problem: String,
}

impl Size {
    pub(crate) fn plus(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    pub(crate) fn times(self, other: Self) -> Option<Self> {
        self.0.checked_mul(other.0).map(Self)
    }

    /// The next multiple of `alignment`.
    pub(crate) fn aligned(self, alignment: Self) -> Option<Self> {
        self.0.checked_next_multiple_of(alignment.0).map(Self)
    }

    pub(crate) fn to_usize(self) -> Option<usize> {
        usize::try_from(self.0).ok()
    }
}

/// A cursor.
#[derive(Clone)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// A cursor over `range` of `bytes`, which an earlier pass took as a whole.
    pub(crate) fn within(bytes: &'a [u8], range: &Range<usize>) -> Self {
        Self { bytes: &bytes[..range.end], at: range.start }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn fail<T>(&self, problem: impl Into<String>) -> Result<T, Fault> {
        Err(Fault { at: self.at as u64, problem: problem.into() })
    }

    /// The next `count` bytes, where they are.
    pub(crate) fn range(&mut self, count: Size) -> Result<Range<usize>, Fault> {
        let end = count.to_usize().and_then(|count| self.at.checked_add(count));
        let Some(end) = end.filter(|end| *end <= self.bytes.len()) else {
            let left = self.bytes.len() - self.at;
            return self.fail(format!("{} bytes are needed, but the file ends after {left}", count.0));
        };
        let range = self.at..end;
        self.at = end;
        Ok(range)
    }

    pub(crate) fn take(&mut self, count: Size) -> Result<&'a [u8], Fault> {
        let range = self.range(count)?;
        Ok(&self.bytes[range])
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let bytes = self.take(Size(N as u64))?;
        Ok(bytes.try_into().expect("as many bytes were taken"))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Fault> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Fault> {
        self.array().map(u64::from_le_bytes)
    }

    /// A number of things of which at most `limit` are read.
    pub(crate) fn count(&mut self, what: &str, limit: u64) -> Result<Size, Fault> {
        // Read once: the number that was checked is the one that is used.
        let start = self.clone();
        let count = self.u64()?;
        if count > limit {
            return start.fail(format!("{count} {what}, but at most {limit} are read"));
        }
        Ok(Size(count))
    }

    /// A string of at most `limit` bytes, where it is.
    pub(crate) fn string_range(&mut self, limit: u64) -> Result<Range<usize>, Fault> {
        let length = self.count("bytes in a string", limit)?;
        self.range(length)
    }

    /// A copy of a string of at most `limit` bytes, checked after it was copied.
    pub(crate) fn string(&mut self, what: &str, limit: u64) -> Result<String, Fault> {
        let start = self.at;
        let range = self.string_range(limit)?;
        String::from_utf8(self.bytes[range].to_vec())
            .map_err(|_| Fault { at: start as u64, problem: format!("{what} is not UTF-8") })
    }
}
