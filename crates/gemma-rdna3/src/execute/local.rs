//! [`LocalMemory`]: the LDS of a workgroup, and which of its bytes were written.

use super::memory::check;
use crate::error::Problem;
use crate::launch::Options;
use crate::random::Random;

/// LDS of one workgroup.
#[derive(Debug)]
pub(crate) struct LocalMemory {
    bytes: Vec<u8>,
    /// For each byte, all ones if it was written.
    written: Vec<u8>,
    aligned: bool,
}

impl LocalMemory {
    /// `size` bytes that hold random ones.
    pub(crate) fn new(size: usize, options: &Options, random: &mut Random) -> Self {
        let bytes = (0..size).map(|_| random.next() as u8).collect();
        Self {
            bytes,
            written: vec![if options.undefined { 0 } else { u8::MAX }; size],
            aligned: options.aligned,
        }
    }

    /// Bytes, and whether all of them were written.
    #[inline]
    pub(super) fn bytes(&self, address: u64, bytes: u32) -> Result<(&[u8], bool), Problem> {
        let range = self.range(address, bytes)?;
        let written = self.written[range.clone()].iter().all(|written| *written != 0);
        Ok((&self.bytes[range], written))
    }

    /// As [`Self::bytes`] for whole words, without saying what is wrong.
    #[inline]
    pub(super) fn found(&self, address: u64, bytes: usize) -> Option<(&[u8], bool)> {
        if self.aligned && address & 3 != 0 {
            return None;
        }
        let range = usize::try_from(address).ok()?..usize::try_from(address).ok()?.checked_add(bytes)?;
        let (found, written) = (self.bytes.get(range.clone())?, self.written.get(range)?);
        let word = |word: &[u8]| u32::from_ne_bytes([word[0], word[1], word[2], word[3]]) == u32::MAX;
        Some((found, written.chunks_exact(4).all(word)))
    }

    #[inline]
    pub(super) fn store(&mut self, address: u64, values: &[u8]) -> Result<(), Problem> {
        let range = self.range(address, values.len() as u32)?;
        self.bytes[range.clone()].copy_from_slice(values);
        self.written[range].fill(u8::MAX);
        Ok(())
    }

    #[inline]
    fn range(&self, address: u64, bytes: u32) -> Result<std::ops::Range<usize>, Problem> {
        let end = address.saturating_add(u64::from(bytes));
        if end > self.bytes.len() as u64 {
            return Err(Problem::OutsideLds { address, bytes, size: self.bytes.len() as u32 });
        }
        check(address, bytes, self.aligned)?;
        Ok(address as usize..end as usize)
    }
}
