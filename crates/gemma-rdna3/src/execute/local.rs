//! [`LocalMemory`]: the LDS of a workgroup, and which of its bytes were written.

use crate::error::Problem;
use crate::launch::Options;
use crate::random::Random;

/// LDS of one workgroup.
#[derive(Debug)]
pub(crate) struct LocalMemory {
    bytes: Vec<u8>,
    written: Vec<bool>,
    aligned: bool,
}

impl LocalMemory {
    /// `size` bytes that hold random ones.
    pub(crate) fn new(size: usize, options: &Options, random: &mut Random) -> Self {
        let bytes = (0..size).map(|_| random.next() as u8).collect();
        Self { bytes, written: vec![!options.undefined; size], aligned: options.aligned }
    }

    /// A value of up to eight bytes, and whether all of them were written.
    pub(crate) fn load(&self, address: u64, bytes: u32) -> Result<(u64, bool), Problem> {
        let range = self.range(address, bytes)?;
        let mut value = [0; 8];
        value[..bytes as usize].copy_from_slice(&self.bytes[range.clone()]);
        Ok((u64::from_le_bytes(value), self.written[range].iter().all(|written| *written)))
    }

    pub(crate) fn store(&mut self, address: u64, bytes: u32, value: u64) -> Result<(), Problem> {
        let range = self.range(address, bytes)?;
        self.bytes[range.clone()].copy_from_slice(&value.to_le_bytes()[..bytes as usize]);
        self.written[range].fill(true);
        Ok(())
    }

    fn range(&self, address: u64, bytes: u32) -> Result<std::ops::Range<usize>, Problem> {
        let alignment = bytes.min(4);
        let end = address.saturating_add(u64::from(bytes));
        if end > self.bytes.len() as u64 {
            return Err(Problem::OutsideLds { address, bytes, size: self.bytes.len() as u32 });
        }
        if self.aligned && address % u64::from(alignment) != 0 {
            return Err(Problem::Misaligned { address, bytes, alignment });
        }
        Ok(address as usize..end as usize)
    }
}
