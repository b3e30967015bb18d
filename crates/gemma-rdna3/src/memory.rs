//! [`Memory`]: the buffers that a kernel may touch, at addresses with wide gaps between them.
//!
//! It never grows a buffer or rounds its size up: the first byte past the end is an error. It stands below the machine.

use crate::error::Problem;

/// The first address that is handed out.
const FIRST_ADDRESS: u64 = 0x7000_0000_0000;
/// Every buffer starts at a multiple of this, as a runtime's allocations do.
const ALIGNMENT: u64 = 256;
/// At least so many bytes between two buffers, so that an index that is too large hits none.
const GAP: u64 = 1 << 32;

/// Device memory: buffers by address.
#[derive(Debug, Default, Clone)]
pub struct Memory {
    /// By rising address.
    buffers: Vec<Buffer>,
}

#[derive(Debug, Clone)]
struct Buffer {
    address: u64,
    bytes: Vec<u8>,
    writable: bool,
}

impl Memory {
    /// Memory without buffers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a buffer of `bytes` zeros and gives its address, a multiple of 256.
    pub fn allocate(&mut self, bytes: usize) -> u64 {
        self.add(vec![0; bytes], true)
    }

    /// Makes a buffer with these bytes and gives its address.
    pub fn allocate_with(&mut self, bytes: &[u8]) -> u64 {
        self.add(bytes.to_vec(), true)
    }

    /// Makes a buffer that kernels may only read, and gives its address.
    pub fn allocate_constant(&mut self, bytes: &[u8]) -> u64 {
        self.add(bytes.to_vec(), false)
    }

    /// The bytes from `address` on, `None` where they are not all in one buffer.
    pub fn read(&self, address: u64, bytes: usize) -> Option<&[u8]> {
        let (buffer, offset) = self.locate(address, bytes)?;
        self.buffers[buffer].bytes.get(offset..offset + bytes)
    }

    /// Overwrites the bytes from `address` on; `None`, and nothing written, where they are not all in one buffer.
    pub fn write(&mut self, address: u64, bytes: &[u8]) -> Option<()> {
        let (buffer, offset) = self.locate(address, bytes.len())?;
        self.buffers[buffer].bytes[offset..offset + bytes.len()].copy_from_slice(bytes);
        Some(())
    }

    /// Forgets the buffer that starts at `address`.
    pub fn free(&mut self, address: u64) {
        self.buffers.retain(|buffer| buffer.address != address);
    }

    /// Four bytes, as the machine reads them.
    pub(crate) fn word(&self, address: u64) -> Result<u64, Problem> {
        let found = self.read(address, 4).and_then(|bytes| bytes.try_into().ok());
        let word = found.map(u32::from_le_bytes).map(u64::from);
        word.ok_or(Problem::OutOfBounds { address, bytes: 4, write: false })
    }

    /// Writes bytes as the machine does.
    #[inline]
    pub(crate) fn store(&mut self, address: u64, values: &[u8]) -> Result<(), Problem> {
        let buffer = self.locate(address, values.len());
        match buffer.map(|(buffer, offset)| (&mut self.buffers[buffer], offset)) {
            Some((buffer, offset)) if buffer.writable => {
                buffer.bytes[offset..offset + values.len()].copy_from_slice(values);
                Ok(())
            }
            _ => Err(Problem::OutOfBounds { address, bytes: values.len() as u32, write: true }),
        }
    }

    fn add(&mut self, bytes: Vec<u8>, writable: bool) -> u64 {
        let end =
            self.buffers.last().map_or(FIRST_ADDRESS, |last| last.address + last.bytes.len() as u64 + GAP);
        let address = end.next_multiple_of(ALIGNMENT);
        self.buffers.push(Buffer { address, bytes, writable });
        address
    }

    /// The buffer and the offset in it.
    fn locate(&self, address: u64, bytes: usize) -> Option<(usize, usize)> {
        let after = self.buffers.partition_point(|buffer| buffer.address <= address);
        let index = after.checked_sub(1)?;
        let buffer = &self.buffers[index];
        let offset = usize::try_from(address - buffer.address).ok()?;
        (offset.checked_add(bytes)? <= buffer.bytes.len()).then_some((index, offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_accesses_inside_one_buffer_are_served() {
        let mut memory = Memory::new();
        let first = memory.allocate_with(&[1, 2, 3, 4, 5]);
        let second = memory.allocate_constant(&[9; 4]);
        assert_eq!(memory.word(first), Ok(0x0403_0201));
        assert_eq!(memory.word(first + 1), Ok(0x0504_0302));
        for address in [first + 2, first + 5, first - 1, 0, u64::MAX] {
            let problem = Problem::OutOfBounds { address, bytes: 4, write: false };
            assert_eq!(memory.word(address), Err(problem), "{address:#x}");
        }
        let problem = Problem::OutOfBounds { address: second, bytes: 1, write: true };
        assert_eq!(memory.store(second, &[0]), Err(problem));
        assert_eq!(memory.store(first + 1, &[0xaa, 0xaa]), Ok(()));
        assert_eq!(memory.read(first, 5), Some(&[1, 0xaa, 0xaa, 4, 5][..]));
        memory.free(first);
        assert_eq!(memory.read(first, 1), None);
    }
}
