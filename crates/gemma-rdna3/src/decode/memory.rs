//! Decoding of accesses to memory and LDS: FLAT, GLOBAL, DS; of MUBUF only what empties caches.

use super::{Decoded, Parts, Reader, bits, known, refuse, single};
use crate::instruction::{Body, Control, Global, ShareBody, scalar};
use crate::operations::data_share::{self, Share};
use crate::operations::global::{self, Access, Atomic};

impl Reader<'_> {
    pub(super) fn global(&mut self, word: u32) -> Decoded<Parts> {
        let second = self.next()?;
        let segment = bits(word, 16, 2);
        let opcode = bits(word, 18, 7);
        let (_, global, flat, access) = *known(global::TABLE.iter().find(|row| row.0 == opcode))?;
        let (name, flat) = match segment {
            0 => (flat, true),
            2 => (global, false),
            1 => return refuse("scratch memory (private arrays or spilled registers)"),
            _ => return known(None),
        };
        let base = bits(second, 16, 7) as u8;
        let base = (base != scalar::NULL).then_some(base);
        if flat && base.is_some() {
            return known(None);
        }
        let (address, data, destination) =
            (bits(second, 0, 8) as u8, bits(second, 8, 8) as u8, bits(second, 24, 8) as u8);
        self.reads_vector(address, if base.is_some() { 1 } else { 2 })?;
        base.map_or(Ok(()), |base| self.reads_scalar(base, 2))?;
        let returns = bits(word, 14, 1) != 0;
        self.transfer(access, [data, 0], destination, returns, true)?;
        let offset = (word << 19) as i32 >> 19;
        let body = Global { access, flat, address, base, offset, data, destination, returns };
        Ok((single(name), Body::Global(Box::new(body))))
    }

    /// The registers that an access reads and writes besides the address.
    fn transfer(
        &mut self,
        access: Access,
        data: [u8; 2],
        destination: u8,
        returns: bool,
        joined: bool,
    ) -> Decoded<()> {
        match access {
            Access::Load(bytes, _) => self.writes_vector(destination, bytes.div_ceil(4))?,
            Access::Store(bytes, _) => self.reads_vector(data[0], bytes.div_ceil(4))?,
            Access::Atomic(bytes, atomic) => {
                self.operands(atomic, bytes / 4, data, joined)?;
                if returns {
                    self.writes_vector(destination, bytes / 4)?;
                }
            }
        }
        Ok(())
    }

    /// In memory operations both operands stand in neighbouring registers, in LDS operations in two fields.
    fn operands(&mut self, atomic: Atomic, count: u8, data: [u8; 2], joined: bool) -> Decoded<()> {
        match (atomic.compares(), joined) {
            (false, _) => self.reads_vector(data[0], count),
            (true, true) => self.reads_vector(data[0], 2 * count),
            (true, false) => {
                self.reads_vector(data[0], count)?;
                self.reads_vector(data[1], count)
            }
        }
    }

    pub(super) fn share(&mut self, word: u32) -> Decoded<Parts> {
        let second = self.next()?;
        let opcode = bits(word, 18, 8);
        let (_, name, share) = *known(data_share::TABLE.iter().find(|row| row.0 == opcode))?;
        if bits(word, 17, 1) != 0 {
            return refuse("global data share");
        }
        let address = bits(second, 0, 8) as u8;
        let data = [bits(second, 8, 8) as u8, bits(second, 16, 8) as u8];
        let destination = bits(second, 24, 8) as u8;
        self.reads_vector(address, 1)?;
        match share {
            Share::One(access, returns) => self.transfer(access, data, destination, returns, false)?,
            Share::LoadTwo(bytes, _) => self.writes_vector(destination, bytes / 2)?,
            Share::StoreTwo(bytes, _) => {
                self.reads_vector(data[0], bytes / 4)?;
                self.reads_vector(data[1], bytes / 4)?;
            }
            Share::Gather | Share::Scatter => {
                self.reads_vector(data[0], 1)?;
                self.writes_vector(destination, 1)?;
            }
            Share::Swizzle => {
                let pattern = bits(word, 0, 16);
                if pattern & 0x8000 != 0 && pattern & 0xff00 != 0x8000 && pattern & 0xf000 != 0xc000 {
                    return refuse("this pattern of a swizzle");
                }
                self.writes_vector(destination, 1)?;
            }
        }
        let body = ShareBody { share, address, data, destination, offset: bits(word, 0, 16) };
        Ok((single(name), Body::Share(Box::new(body))))
    }

    pub(super) fn buffer(&mut self, word: u32) -> Decoded<Parts> {
        self.next()?;
        let name = match bits(word, 18, 8) {
            0x2b => "buffer_gl0_inv",
            0x2c => "buffer_gl1_inv",
            _ => return refuse("a buffer access"),
        };
        Ok((single(name), Body::Control(Control::Nothing)))
    }
}
