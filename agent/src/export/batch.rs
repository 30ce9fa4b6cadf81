//! Spans on their way through queues: shared between outputs, never copied.

use std::ops::Range;
use std::sync::Arc;

use crate::enrich::Resource;
use crate::span::Span;

/// A span and the resource of its process.
pub type Item = (Arc<Resource>, Span);

/// Spans of one piece at most, so that what one slow reader of a piece keeps alive is bounded.
const PIECE_SPANS: usize = 256;

/// Estimated bytes at which a piece ends.
const PIECE_BYTES: usize = 256 << 10;

/// Some spans, shared by all queues that they wait in.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    items: Arc<Vec<Item>>,
    range: Range<usize>,
    /// Estimated memory of all items, also those outside the range.
    pub(super) bytes: usize,
}

impl Piece {
    pub(super) fn items(&self) -> &[Item] {
        self.items.get(self.range.clone()).unwrap_or_default()
    }

    pub(super) fn len(&self) -> usize {
        self.range.len()
    }

    /// Takes the first `n` items off.
    pub(super) fn split_front(&mut self, n: usize) -> Self {
        let middle = (self.range.start + n).min(self.range.end);
        let front =
            Self { items: Arc::clone(&self.items), range: self.range.start..middle, bytes: self.bytes };
        self.range.start = middle;
        front
    }
}

/// Cuts spans into pieces, in order.
pub(super) fn pieces(mut spans: Vec<Item>) -> Vec<Piece> {
    let mut cuts = vec![(0, 0)];
    for (at, item) in spans.iter().enumerate() {
        let size = estimate(item);
        match cuts.last_mut() {
            Some((start, bytes))
                if at - *start < PIECE_SPANS && (*bytes == 0 || *bytes + size <= PIECE_BYTES) =>
            {
                *bytes += size;
            }
            _ => cuts.push((at, size)),
        }
    }
    let mut pieces: Vec<Piece> = Vec::with_capacity(cuts.len());
    // From the end, so that each span moves at most once.
    for (start, bytes) in cuts.into_iter().rev() {
        let items = if start == 0 { std::mem::take(&mut spans) } else { spans.split_off(start) };
        pieces.push(Piece { range: 0..items.len(), items: Arc::new(items), bytes });
    }
    pieces.reverse();
    pieces
}

/// Memory of a span, near enough for a bound.
fn estimate((_, span): &Item) -> usize {
    size_of::<Item>() + span.name.weight() + span.context.trace_state.len() + span.attributes.weight()
}

/// Spans in the groups of their resources, both in the order of first appearance.
pub(super) fn by_resource(pieces: &[Piece]) -> Vec<(&Resource, Vec<&Span>)> {
    let mut groups: Vec<(&Resource, Vec<&Span>)> = Vec::new();
    let mut last = 0;
    for (resource, span) in pieces.iter().flat_map(Piece::items) {
        let same = |group: &(&Resource, Vec<&Span>)| std::ptr::eq(group.0, &raw const **resource);
        if !groups.get(last).is_some_and(same) {
            last = groups.iter().position(same).unwrap_or(groups.len());
        }
        match groups.get_mut(last) {
            Some((_, spans)) => spans.push(span),
            None => groups.push((resource, vec![span])),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::fixtures::{resource, span};

    #[test]
    fn pieces_hold_every_span_once_and_are_bounded() {
        let resource = Arc::new(resource("a"));
        for n in [0, 1, 255, 256, 257, 1_000] {
            let spans = (0..n).map(|i| (Arc::clone(&resource), span("GET", i, i + 1))).collect();
            let pieces = pieces(spans);
            let starts: Vec<u64> = pieces.iter().flat_map(Piece::items).map(|(_, span)| span.start).collect();
            assert_eq!(starts, (0..n).collect::<Vec<_>>());
            assert!(pieces.iter().all(|piece| piece.len() <= PIECE_SPANS));
        }
    }

    #[test]
    fn a_piece_of_large_spans_is_short() {
        let resource = Arc::new(resource("a"));
        let mut large = span("GET", 1, 2);
        large.context.trace_state = "x".repeat(100 << 10).into();
        let pieces = pieces(vec![(Arc::clone(&resource), large); 7]);
        assert_eq!(pieces.iter().map(Piece::len).collect::<Vec<_>>(), [2, 2, 2, 1]);
        assert!(pieces.iter().all(|piece| piece.bytes <= PIECE_BYTES));
    }
}
