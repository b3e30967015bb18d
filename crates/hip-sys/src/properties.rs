//! The name of a device's instruction set, which only the properties structure has.
//!
//! Its layout changed with HIP 6.0, and later versions may write more of it than the headers here know. So it is written into a
//! large zeroed buffer, two fields are read at the offsets of the version, and what does not look right counts as unknown.

use std::ffi::{c_int, c_void};

use crate::{Error, Hip, hipDeviceAttributeWarpSize, hipErrorNotFound};

/// Room for the structure: 792 bytes in HIP 5.7, 1,472 in 6.0 to 7.14.
const ROOM: usize = 16 * 1024;
/// Bytes of the name, its zero included, in every version.
const NAME_BYTES: usize = 256;

/// Where the two fields lie.
struct Layout {
    /// `gcnArchName`, a string.
    name: usize,
    /// `warpSize`, an int, which the attribute of the same name has too.
    wave: usize,
}

/// Of `hipGetDeviceProperties`: HIP 5.7.1's header.
const FIVE: Layout = Layout { name: 396, wave: 276 };
/// Of `hipGetDevicePropertiesR0600`: the headers of HIP 6.0.0, 6.2.2, 6.3, 6.4, 7.0, 7.1, 7.2 and 7.14.
const SIX: Layout = Layout { name: 1160, wave: 308 };

/// The structure's room, aligned as its widest field.
#[repr(C, align(16))]
struct Buffer([u8; ROOM]);

impl Hip {
    /// The device's architecture as code objects name it, such as `gfx1103` or `gfx90a:sramecc+:xnack-`. None where the structure
    /// does not look like one of the layouts that are known: then the numbers of `hipDeviceAttributeComputeCapabilityMajor` and
    /// `Minor` are all there is.
    ///
    /// # Errors
    /// What the runtime answers, [`hipErrorInvalidDevice`](crate::hipErrorInvalidDevice) for one.
    pub fn architecture(&self, device: c_int) -> Result<Option<String>, Error> {
        let (get, layout) = match (self.hipGetDevicePropertiesR0600, self.hipGetDeviceProperties) {
            (Some(get), _) => (get, SIX),
            (None, Some(get)) => (get, FIVE),
            (None, None) => return self.check(hipErrorNotFound).map(|()| None),
        };
        let mut buffer = Box::new(Buffer([0; ROOM]));
        // SAFETY: the buffer has room for the structure of every known version and ten times that.
        self.check(unsafe { get((&raw mut *buffer).cast::<c_void>(), device) })?;
        let mut wave = 0;
        // SAFETY: the place lives as long as the call.
        self.check(unsafe {
            (self.hipDeviceGetAttribute)(&raw mut wave, hipDeviceAttributeWarpSize, device)
        })?;
        Ok(layout.architecture(&buffer.0, wave))
    }
}

impl Layout {
    /// The name, if both fields look as they should.
    fn architecture(&self, properties: &[u8; ROOM], wave: c_int) -> Option<String> {
        let there = properties[self.wave..].first_chunk().map(|bytes| c_int::from_ne_bytes(*bytes))?;
        let name = properties[self.name..].get(..NAME_BYTES)?;
        let name = std::str::from_utf8(name.split(|byte| *byte == 0).next()?).ok()?;
        let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-+:".contains(c);
        let plausible = there == wave && name.len() < NAME_BYTES && name.chars().all(letters);
        let number = name.strip_prefix("gfx")?;
        (plausible && number.starts_with(|c: char| c.is_ascii_digit())).then(|| name.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(layout: &Layout, name: &[u8], wave: c_int) -> [u8; ROOM] {
        let mut properties = [0; ROOM];
        properties[layout.name..][..name.len()].copy_from_slice(name);
        properties[layout.wave..][..4].copy_from_slice(&wave.to_ne_bytes());
        properties
    }

    #[test]
    fn the_name_is_read_in_both_layouts() {
        for layout in [FIVE, SIX] {
            for name in ["gfx1103", "gfx90a:sramecc+:xnack-", "gfx11-generic"] {
                let properties = written(&layout, name.as_bytes(), 32);
                assert_eq!(layout.architecture(&properties, 32).as_deref(), Some(name));
            }
        }
    }

    #[test]
    fn what_does_not_look_right_is_unknown() {
        for name in [&b"Radeon"[..], b"", b"gfx", b"gfx11 03", b"gfx\xff1103", &[b'g'; NAME_BYTES]] {
            assert_eq!(SIX.architecture(&written(&SIX, name, 32), 32), None, "{name:?}");
        }
        assert_eq!(SIX.architecture(&written(&SIX, b"gfx1103", 32), 64), None);
        assert_eq!(SIX.architecture(&written(&FIVE, b"gfx1103", 32), 32), None);
        assert_eq!(FIVE.architecture(&written(&SIX, b"gfx1103", 32), 32), None);
    }
}
