//! Numbers and ids as text, without the machinery of `fmt`.

/// Adds a number with leading zeros up to `width` digits.
pub(super) fn digits(out: &mut String, mut value: u64, width: usize) {
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
    ascii(out, buffer.get(start..).unwrap_or_default());
}

/// Adds bytes in lower-case hexadecimal; of more than 16 the first 16.
pub(super) fn hex(out: &mut String, bytes: &[u8]) {
    let mut buffer = [[0; 2]; 16];
    for (pair, byte) in buffer.iter_mut().zip(bytes) {
        *pair = [byte >> 4, byte & 15].map(|digit| if digit < 10 { b'0' + digit } else { b'a' - 10 + digit });
    }
    ascii(out, buffer.as_flattened().get(..bytes.len().min(16) * 2).unwrap_or_default());
}

fn ascii(out: &mut String, bytes: &[u8]) {
    out.push_str(str::from_utf8(bytes).unwrap_or_default());
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
