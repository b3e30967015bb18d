//! [`read`]: the whole of a file or stream that nobody has vouched for the length of.
//!
//! Every file that is read as a whole, here and in the program, is read through this with a limit that has a name.

use std::io::{self, Read};

/// Everything that `from` gives; none when that is more than `limit` bytes, of which at most one more was then read.
///
/// # Errors
/// Those of reading.
pub fn read(from: impl Read, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    from.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= limit).then_some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_much_as_the_limit_and_no_more() {
        for (length, limit, fits) in
            [(0, 0, true), (1, 0, false), (9, 9, true), (10, 9, false), (3, u64::MAX, true)]
        {
            let found = read(io::repeat(7).take(length), limit).unwrap();
            assert_eq!(found, fits.then(|| vec![7; length as usize]), "{length} of {limit}");
        }
    }

    #[test]
    fn a_stream_without_end_is_given_up() {
        assert_eq!(read(io::repeat(7), 1000).unwrap(), None);
    }
}
