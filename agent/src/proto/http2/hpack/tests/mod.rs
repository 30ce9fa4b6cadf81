//! HPACK against the examples of the specification, against another decoder, and with blocks missing.

mod recorded;

use std::collections::VecDeque;

use proptest::prelude::*;

use super::{Broken, Decoder, Field, huffman};

/// A field as text; `?` where it is not known.
fn shown(Field { name, value }: Field<'_>) -> String {
    let text =
        |part: Option<&[u8]>| part.map_or("?".into(), |part| String::from_utf8_lossy(part).into_owned());
    format!("{}: {}", text(name), text(value))
}

fn read(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<String>, Broken> {
    let mut fields = Vec::new();
    decoder.block(block, |field| fields.push(shown(field))).map(|()| fields)
}

pub(super) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}

/// RFC 7541, appendices C.3 to C.6: three blocks each, of requests and of responses with a table of 256 bytes, plain and
/// coded.
#[test]
fn examples_of_the_specification() {
    let requests = [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ];
    let coded_requests = [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ];
    for blocks in [requests, coded_requests] {
        let mut decoder = Decoder::new(false);
        let fields = blocks.map(|block| read(&mut decoder, &hex(block)).unwrap().join("\n"));
        assert_eq!(fields[0], ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com");
        assert_eq!(
            fields[1],
            ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\ncache-control: no-cache"
        );
        assert_eq!(
            fields[2],
            ":method: GET\n:scheme: https\n:path: /index.html\n:authority: www.example.com\ncustom-key: custom-value"
        );
    }
    let responses = [
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d 546e \
         1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "4803 3330 37c1 c0bf",
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f 6f3d \
         4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 \
         7369 6f6e 3d31",
    ];
    let mut decoder = Decoder::new(false);
    read(&mut decoder, &hex("3fe1 01")).unwrap();
    let fields = responses.map(|block| read(&mut decoder, &hex(block)).unwrap().join("\n"));
    assert_eq!(
        fields[1],
        ":status: 307\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\nlocation: https://www.example.com"
    );
    assert!(
        fields[2].starts_with(":status: 200\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:22 GMT\n")
    );
    assert!(fields[2].ends_with("set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"));
}

#[test]
fn blocks_that_are_none() {
    for (block, expected) in [
        // Index 0; an index beyond the table; a text beyond the block; a length without end; a cut literal.
        ("80", Broken::Invalid),
        ("be", Broken::Invalid),
        ("7f 00 01 61", Broken::Invalid),
        ("44 05 2f 61", Broken::Cut),
        ("44 7f ff ff ff ff 01", Broken::Invalid),
        ("44", Broken::Cut),
        ("40 01 61", Broken::Cut),
        ("44 82 ff ff", Broken::Invalid),
    ] {
        assert_eq!(read(&mut Decoder::new(false), &hex(block)), Err(expected), "{block}");
    }
}

#[test]
fn what_was_inserted_unseen_stays_unknown() {
    let mut decoder = Decoder::new(true);
    // An entry of before; a name of before with a new value, inserted; a new field, inserted.
    assert_eq!(
        read(&mut decoder, &hex("be 7f00 02 6869 40 01 61 01 62")).unwrap(),
        ["?: ?", "?: hi", "a: b"]
    );
    // The newest is known, then one whose name is not, then those of before.
    assert_eq!(read(&mut decoder, &hex("be bf c0 ff 20")).unwrap(), ["a: b", "?: hi", "?: ?", "?: ?"]);
    // A broken block: nobody knows what it inserted.
    assert_eq!(read(&mut decoder, &hex("40 01 63 01 64 44 05")), Err(Broken::Cut));
    assert_eq!(
        read(&mut decoder, &hex("be 40 01 65 01 66 be bf")).unwrap(),
        ["?: ?", "e: f", "e: f", "?: ?"]
    );
    // A table of size zero is empty, whatever was in it.
    assert!(!decoder.is_whole());
    assert_eq!(read(&mut decoder, &hex("20 3f e1 1f 40 01 67 01 68 be")).unwrap(), ["g: h", "g: h"]);
    assert!(decoder.is_whole());
    assert_eq!(read(&mut decoder, &hex("bf")), Err(Broken::Invalid));
}

/// What an encoder may do with a field.
#[derive(Clone, Debug)]
enum Step {
    Field { name: usize, value: usize, mode: usize, coded: bool },
    Resize(usize),
}

const NAMES: [&str; 7] =
    [":path", ":authority", "user-agent", "traceparent", "x-a", "x-longer-name", "grpc-timeout"];

/// An encoder that uses whatever the specification allows, as its steps say.
pub(in crate::proto::http2) struct Encoder {
    entries: VecDeque<(Vec<u8>, Vec<u8>)>,
    limit: usize,
}

impl Default for Encoder {
    fn default() -> Self {
        Self { entries: VecDeque::new(), limit: 4096 }
    }
}

impl Encoder {
    /// A block as most encoders write it: everything is inserted, and what is there is used.
    pub(in crate::proto::http2) fn fields(&mut self, fields: &[(&str, &str)]) -> Vec<u8> {
        let mut block = Vec::new();
        for (name, value) in fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())) {
            let fixed = super::static_table::ENTRIES.iter();
            let all =
                || fixed.clone().copied().chain(self.entries.iter().map(|(name, value)| (&**name, &**value)));
            if let Some(at) = all().position(|entry| entry == (name, value)) {
                Self::integer(&mut block, 0x80, 7, at + 1);
                continue;
            }
            let index = all().position(|entry| entry.0 == name).map_or(0, |at| at + 1);
            Self::integer(&mut block, 0x40, 6, index);
            if index == 0 {
                Self::text(&mut block, name, true);
            }
            Self::text(&mut block, value, value.len() % 2 == 0);
            self.insert(name.into(), value.into());
        }
        block
    }

    fn insert(&mut self, name: Vec<u8>, value: Vec<u8>) {
        let size = 32 + name.len() + value.len();
        if size > self.limit {
            self.entries.clear();
        } else {
            self.entries.push_front((name, value));
            self.evict();
        }
    }

    fn size(&self) -> usize {
        self.entries.iter().map(|(name, value)| 32 + name.len() + value.len()).sum()
    }

    fn evict(&mut self) {
        while self.size() > self.limit {
            self.entries.pop_back();
        }
    }

    fn integer(to: &mut Vec<u8>, first: u8, prefix: u32, value: usize) {
        let most = (1 << prefix) - 1;
        if value < most {
            return to.push(first | value as u8);
        }
        to.push(first | most as u8);
        let mut rest = value - most;
        while rest >= 128 {
            to.push(rest as u8 & 0x7f | 0x80);
            rest >>= 7;
        }
        to.push(rest as u8);
    }

    fn text(to: &mut Vec<u8>, text: &[u8], coded: bool) {
        let bytes = if coded { huffman::encode(text) } else { text.to_vec() };
        Self::integer(to, u8::from(coded) << 7, 7, bytes.len());
        to.extend(bytes);
    }

    fn block(&mut self, steps: &[Step]) -> (Vec<u8>, Vec<String>) {
        let (mut block, mut fields) = (Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::Resize(limit) => {
                    Self::integer(&mut block, 0x20, 5, *limit);
                    self.limit = *limit;
                    self.evict();
                }
                Step::Field { name, value, mode, coded } => {
                    let name = NAMES[*name].as_bytes().to_vec();
                    let value = format!("/{}", "v".repeat(*value % 7) + &value.to_string()).into_bytes();
                    fields.push(shown(Field { name: Some(&name), value: Some(&value) }));
                    let whole = self.entries.iter().position(|entry| *entry == (name.clone(), value.clone()));
                    if let Some(at) = whole
                        && mode % 2 == 0
                    {
                        Self::integer(&mut block, 0x80, 7, at + 62);
                        continue;
                    }
                    let (first, prefix) = [(0x40, 6), (0x40, 6), (0x00, 4), (0x10, 4)][mode % 4];
                    let known = self.entries.iter().position(|entry| entry.0 == name);
                    let fixed = super::static_table::ENTRIES.iter().position(|entry| entry.0 == name);
                    let index = if mode % 3 == 0 { known.map(|at| at + 62) } else { fixed.map(|at| at + 1) };
                    Self::integer(&mut block, first, prefix, index.unwrap_or(0));
                    if index.is_none() {
                        Self::text(&mut block, &name, !*coded);
                    }
                    Self::text(&mut block, &value, *coded);
                    if first == 0x40 {
                        self.insert(name, value);
                    }
                }
            }
        }
        (block, fields)
    }
}

fn step() -> impl Strategy<Value = Step> {
    (0..NAMES.len(), 0..20usize, 0..12usize, any::<bool>())
        .prop_map(|(name, value, mode, coded)| Step::Field { name, value, mode, coded })
}

/// Sizes come first in a block (section 4.2).
fn block() -> impl Strategy<Value = Vec<Step>> {
    let sizes = prop_oneof![Just(0usize), 30..400usize, Just(4096), Just(8192), Just(1 << 20)];
    let resizes = prop_oneof![9 => Just(0..1usize), 1 => Just(1..3)]
        .prop_flat_map(move |count| prop::collection::vec(sizes.clone().prop_map(Step::Resize), count));
    (resizes, prop::collection::vec(step(), 1..9)).prop_map(|(first, then)| [first, then].concat())
}

fn blocks() -> impl Strategy<Value = Vec<(Vec<u8>, Vec<String>)>> {
    prop::collection::vec(block(), 1..20).prop_map(|blocks| {
        let mut encoder = Encoder::default();
        blocks.iter().map(|steps| encoder.block(steps)).collect()
    })
}

/// No field is wrong: each is what it was, or unknown as far as it is.
pub(super) fn right(got: &[String], expected: &[String], all: bool) -> Result<(), TestCaseError> {
    prop_assert!(got.len() <= expected.len());
    prop_assert!(!all || got.len() == expected.len());
    for (got, expected) in got.iter().zip(expected) {
        let (name, value) = got.split_once(": ").unwrap();
        let (right_name, right_value) = expected.split_once(": ").unwrap();
        prop_assert!(name == "?" || name == right_name, "{} for {}", got, expected);
        prop_assert!(value == "?" || value == right_value, "{} for {}", got, expected);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whole_connections_are_read_whole(blocks in blocks()) {
        let mut decoder = Decoder::new(false);
        let mut oracle = loona_hpack::Decoder::new();
        oracle.set_max_allowed_table_size(1 << 20);
        for (block, fields) in &blocks {
            prop_assert_eq!(&read(&mut decoder, block).unwrap(), fields);
            let other = oracle.decode(block).unwrap();
            let other: Vec<_> =
                other.iter().map(|(name, value)| shown(Field { name: Some(name), value: Some(value) })).collect();
            prop_assert_eq!(&other, fields);
        }
        prop_assert!(decoder.kept() <= (64 << 10) + 4096);
    }

    /// Joined anywhere, and with any blocks cut or lost.
    #[test]
    fn no_field_is_wrong(blocks in blocks(), join in 0..10usize, fates in prop::collection::vec(0..12usize, 20)) {
        let mut decoder = Decoder::new(join > 0);
        for ((block, fields), fate) in blocks.iter().zip(&fates).skip(join) {
            match fate {
                0 => decoder.lose(),
                1 => {
                    let cut = &block[..block.len() / 2];
                    let mut got = Vec::new();
                    let whole = decoder.block(cut, |field| got.push(shown(field)));
                    right(&got, fields, false)?;
                    if whole.is_ok() {
                        decoder.lose();
                    }
                }
                _ => right(&read(&mut decoder, block).unwrap(), fields, true)?,
            }
        }
    }

    #[test]
    fn anything_at_all(blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..20), joined: bool) {
        let mut decoder = Decoder::new(joined);
        for block in &blocks {
            let _ = decoder.block(block, |_| {});
        }
    }

    #[test]
    fn every_text_comes_back(text in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut back = Vec::new();
        huffman::decode(&huffman::encode(&text), &mut back).unwrap();
        prop_assert_eq!(back, text);
    }
}
