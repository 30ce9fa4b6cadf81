//! Integers with a prefix: RFC 7541, section 5.1.

use super::Broken;

/// Bytes of a block, read from the front.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn byte(&mut self) -> Result<u8, Broken> {
        let (&byte, rest) = self.0.split_first().ok_or(Broken::Cut)?;
        self.0 = rest;
        Ok(byte)
    }

    /// The next byte, which stays.
    pub(super) fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    pub(super) fn bytes(&mut self, n: usize) -> Result<&'a [u8], Broken> {
        let (bytes, rest) = self.0.split_at_checked(n).ok_or(Broken::Cut)?;
        self.0 = rest;
        Ok(bytes)
    }

    /// An integer whose first byte has it in its low `prefix` bits. No block needs one above 28 bits.
    pub(super) fn integer(&mut self, prefix: u32) -> Result<usize, Broken> {
        let most = (1usize << prefix) - 1;
        let mut value = usize::from(self.byte()?) & most;
        if value < most {
            return Ok(value);
        }
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Broken::Invalid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers() {
        for (bytes, prefix, expected) in [
            // RFC 7541, appendix C.1.
            (&[0x0a][..], 5, Ok(10)),
            (&[0x1f, 0x9a, 0x0a], 5, Ok(1337)),
            (&[42], 8, Ok(42)),
            (&[0xea], 5, Ok(10)),
            (&[0x1f, 0x00], 5, Ok(31)),
            (&[0x1f], 5, Err(Broken::Cut)),
            (&[0x1f, 0x80], 5, Err(Broken::Cut)),
            (&[], 5, Err(Broken::Cut)),
            (&[0x7f, 0xff, 0xff, 0xff, 0x7f], 7, Ok(127 + (1 << 28) - 1)),
            (&[0x7f, 0xff, 0xff, 0xff, 0xff, 0x01], 7, Err(Broken::Invalid)),
        ] {
            assert_eq!(Reader(bytes).integer(prefix), expected, "{bytes:x?}");
        }
    }
}
