//! Numbers and ids as text, without the machinery of `fmt`.

/// Where text can be added.
pub(super) trait Text {
    /// Adds ASCII.
    fn ascii(&mut self, bytes: &[u8]);
}

impl Text for String {
    fn ascii(&mut self, bytes: &[u8]) {
        self.push_str(str::from_utf8(bytes).unwrap_or_default());
    }
}

impl Text for Vec<u8> {
    fn ascii(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Adds a number with leading zeros up to `width` digits.
pub(super) fn digits(out: &mut impl Text, mut value: u64, width: usize) {
    let mut buffer = [b'0'; 20];
    let mut used = 0;
    for slot in buffer.iter_mut().rev() {
        if value == 0 && used >= width.max(1) {
            break;
        }
        *slot = b'0' + (value % 10) as u8;
        value /= 10;
        used += 1;
    }
    let start = buffer.len() - used;
    out.ascii(buffer.get(start..).unwrap_or_default());
}

/// Each byte in lower-case hexadecimal.
#[expect(clippy::indexing_slicing, reason = "of constants, by numbers within their bounds")]
const HEX: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut table = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = [digits[byte >> 4], digits[byte & 15]];
        byte += 1;
    }
    table
};

/// Adds bytes in lower-case hexadecimal; of more than 16 the first 16.
pub(super) fn hex(out: &mut impl Text, bytes: &[u8]) {
    let mut buffer = [[0; 2]; 16];
    for (pair, byte) in buffer.iter_mut().zip(bytes) {
        *pair = HEX.get(usize::from(*byte)).copied().unwrap_or_default();
    }
    out.ascii(buffer.as_flattened().get(..bytes.len().min(16) * 2).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (value, width, expected) in [
            (0, 0, "0"),
            (0, 3, "000"),
            (7, 2, "07"),
            (1_234, 2, "1234"),
            (u64::MAX, 1, "18446744073709551615"),
        ] {
            let mut out = String::from("x");
            digits(&mut out, value, width);
            assert_eq!(out, format!("x{expected}"));
        }
    }

    #[test]
    fn ids() {
        let mut out = String::new();
        hex(&mut out, &[0x00, 0x9f, 0xa0, 0xff]);
        hex(&mut out, &[0x12; 16]);
        assert_eq!(out, format!("009fa0ff{}", "12".repeat(16)));
    }
}
