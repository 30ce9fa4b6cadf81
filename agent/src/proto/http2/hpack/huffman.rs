//! The Huffman code of RFC 7541, appendix B. It is canonical (among codes of one length, those of smaller symbols come
//! first), so the lengths say all.

use super::Broken;

/// Bits of the code of each byte, and of the end of the string.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7,
    7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21,
    23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24,
    21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

const END_OF_STRING: u16 = 256;
const LONGEST: usize = 30;

/// The code, by the length of its words.
struct Code {
    /// Symbols in the order of their codes.
    symbols: [u16; 257],
    /// Codes below this one, in the upper bits of a word, are no longer than so many bits.
    below: [u32; LONGEST + 1],
    /// What to add to a code of so many bits for its place in `symbols`.
    offset: [i32; LONGEST + 1],
    /// Symbol and length by the first eight bits, for codes that are no longer: nearly all of a header.
    short: [(u8, u8); 256],
}

static CODE: Code = Code::new();

impl Code {
    #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, from constants")]
    const fn new() -> Self {
        let mut made = Self {
            symbols: [0; 257],
            below: [0; LONGEST + 1],
            offset: [0; LONGEST + 1],
            short: [(0, 0); 256],
        };
        let (mut count, mut next, mut length) = (0, 0u32, 1);
        while length <= LONGEST {
            next <<= 1;
            made.offset[length] = count as i32 - next as i32;
            let mut symbol = 0;
            while symbol < LENGTHS.len() {
                if LENGTHS[symbol] as usize == length {
                    made.symbols[count] = symbol as u16;
                    if length <= 8 {
                        let mut at = (next as usize) << (8 - length);
                        let end = (next as usize + 1) << (8 - length);
                        while at < end {
                            made.short[at] = (symbol as u8, length as u8);
                            at += 1;
                        }
                    }
                    count += 1;
                    next += 1;
                }
                symbol += 1;
            }
            made.below[length] = next << (32 - length);
            length += 1;
        }
        made
    }
}

/// Appends what `bytes` say to `text`, at most eight bytes for five.
pub(super) fn decode(bytes: &[u8], text: &mut Vec<u8>) -> Result<(), Broken> {
    // Up to 40 bits, the next one uppermost.
    let (mut bits, mut have) = (0u64, 0usize);
    let mut bytes = bytes.iter();
    loop {
        while have <= 32
            && let Some(&byte) = bytes.next()
        {
            bits |= u64::from(byte) << (56 - have);
            have += 8;
        }
        let word = (bits >> 32) as u32;
        let (symbol, length) = match CODE.short.get(usize::from((bits >> 56) as u8)) {
            Some(&(symbol, length)) if length > 0 => (u16::from(symbol), usize::from(length)),
            _ => long(word).ok_or(Broken::Invalid)?,
        };
        if length > have {
            // What is left is the padding: fewer than eight ones, the beginning of the longest code (section 5.2).
            let ones = have < 8 && bits.leading_ones() as usize >= have;
            return if ones { Ok(()) } else { Err(Broken::Invalid) };
        }
        let Ok(symbol) = u8::try_from(symbol) else { return Err(Broken::Invalid) };
        text.push(symbol);
        bits <<= length;
        have -= length;
    }
}

/// Symbol and length of a code of more than eight bits.
fn long(word: u32) -> Option<(u16, usize)> {
    let length = (9..LONGEST)
        .find(|&length| CODE.below.get(length).is_some_and(|&below| word < below))
        .unwrap_or(LONGEST);
    let code = i32::try_from(word >> (32 - length)).ok()?;
    let at = usize::try_from(code + CODE.offset.get(length)?).ok()?;
    Some((*CODE.symbols.get(at).unwrap_or(&END_OF_STRING), length))
}

/// For tests: as an encoder writes it.
#[cfg(test)]
pub(super) fn encode(text: &[u8]) -> Vec<u8> {
    let mut codes = [(0u32, 0u8); 257];
    for length in 1..=LONGEST {
        for symbol in 0..257 {
            if usize::from(LENGTHS[symbol]) == length {
                let at = CODE.symbols.iter().position(|&s| usize::from(s) == symbol).unwrap();
                codes[symbol] = ((at as i32 - CODE.offset[length]) as u32, LENGTHS[symbol]);
            }
        }
    }
    let (mut bits, mut have, mut bytes) = (0u64, 0, Vec::new());
    for &byte in text {
        let (code, length) = codes[usize::from(byte)];
        bits = bits << length | u64::from(code);
        have += length;
        while have >= 8 {
            have -= 8;
            bytes.push((bits >> have) as u8);
        }
    }
    if have > 0 {
        bytes.push((bits << (8 - have)) as u8 | 0xff >> have);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<u8>, Broken> {
        let mut text = Vec::new();
        decode(bytes, &mut text).map(|()| text)
    }

    #[test]
    fn examples_of_the_specification() {
        // RFC 7541, appendices C.4 and C.6.
        for (bytes, text) in [
            (&b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"[..], "www.example.com"),
            (b"\xa8\xeb\x10\x64\x9c\xbf", "no-cache"),
            (b"\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f", "custom-key"),
            (b"\x64\x02", "302"),
            (
                b"\xd0\x7a\xbe\x94\x10\x54\xd4\x44\xa8\x20\x05\x95\x04\x0b\x81\x66\xe0\x82\xa6\x2d\x1b\xff",
                "Mon, 21 Oct 2013 20:13:21 GMT",
            ),
            (b"", ""),
        ] {
            assert_eq!(read(bytes), Ok(text.into()));
            assert_eq!(encode(text.as_bytes()), bytes);
        }
    }

    #[test]
    fn every_byte_comes_back() {
        let all: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
        assert_eq!(read(&encode(&all)), Ok(all));
        for byte in 0..=255 {
            assert_eq!(read(&encode(&[byte])), Ok(vec![byte]));
        }
    }

    #[test]
    fn padding_is_fewer_than_eight_ones() {
        assert_eq!(read(b"\xff"), Err(Broken::Invalid));
        assert_eq!(read(b"\xff\xff\xff\xff"), Err(Broken::Invalid));
        // '0' and three zeros; '0' and eleven ones.
        assert_eq!(read(b"\x00"), Err(Broken::Invalid));
        assert_eq!(read(b"\x07\xff"), Err(Broken::Invalid));
        assert_eq!(read(b"\x07"), Ok(b"0".to_vec()));
    }
}
