//! Blocks that other encoders wrote: the first ones of one direction of a connection, a line each, as they went over the wire
//! between the real programs that the files are named after.

use std::path::Path;

use super::{Decoder, hex, read, right};

fn recorded() -> Vec<(String, Vec<Vec<u8>>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/proto/http2/hpack/tests/blocks");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let blocks = |path: &Path| std::fs::read_to_string(path).unwrap().lines().map(hex).collect();
    files
        .iter()
        .map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), blocks(path)))
        .collect()
}

/// The fields of each block, as another decoder reads them.
fn oracle(blocks: &[Vec<u8>]) -> Vec<Vec<String>> {
    let mut decoder = loona_hpack::Decoder::new();
    decoder.set_max_allowed_table_size(1 << 20);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let fields = |block: &Vec<u8>| {
        let fields = decoder.decode(block).unwrap();
        fields.iter().map(|(name, value)| format!("{}: {}", text(name), text(value))).collect()
    };
    blocks.iter().map(fields).collect()
}

#[test]
fn whole_connections() {
    let all = recorded();
    assert!(all.len() >= 17, "{} files", all.len());
    for (encoder, blocks) in all {
        let mut decoder = Decoder::new(false);
        for (block, expected) in blocks.iter().zip(oracle(&blocks)) {
            assert_eq!(read(&mut decoder, block).unwrap(), expected, "{encoder}");
        }
        assert!(blocks.len() >= 12);
    }
}

/// Without the first blocks, and without any one of them: nothing is wrong, and what is known of the others is most of it.
#[test]
fn with_blocks_missing() {
    for (encoder, blocks) in recorded() {
        let expected = oracle(&blocks);
        for first in 1..blocks.len() {
            let mut decoder = Decoder::new(true);
            for (block, expected) in blocks.iter().zip(&expected).skip(first) {
                right(&read(&mut decoder, block).unwrap(), expected, true).expect(&encoder);
            }
        }
        for lost in 0..blocks.len() {
            let mut decoder = Decoder::new(false);
            for (at, (block, expected)) in blocks.iter().zip(&expected).enumerate() {
                if at == lost {
                    decoder.lose();
                    continue;
                }
                let got = read(&mut decoder, block).unwrap();
                right(&got, expected, true).expect(&encoder);
                assert!(at > lost || got == *expected, "{encoder}");
            }
        }
    }
}

/// What is known of paths after a late join depends on what encoders insert: the share of requests with a path in the
/// second half of what was recorded, the first half not being seen.
#[test]
fn paths_after_a_late_join() {
    let mut shares = Vec::new();
    for (encoder, blocks) in recorded().into_iter().filter(|(encoder, _)| encoder.contains("client")) {
        let mut decoder = Decoder::new(true);
        let (mut requests, mut known) = (0, 0);
        for (block, expected) in blocks.iter().zip(oracle(&blocks)).skip(blocks.len() / 2) {
            requests += usize::from(expected.iter().any(|field| field.starts_with(":path")));
            let got = read(&mut decoder, block).unwrap();
            known += usize::from(got.iter().any(|field| field.starts_with(":path: /")));
        }
        shares.push(format!("{encoder} {known}/{requests}"));
    }
    insta::assert_snapshot!(shares.join("\n"), @r"
    go-client 18/18
    grpc-core-client 11/18
    grpc-go-client 3/18
    grpc-js-client 18/18
    hyper-h2-client 0/10
    java-client 18/18
    nghttp2-client-resized 6/6
    nghttp2-client 18/18
    node-client 18/18
    ");
}
