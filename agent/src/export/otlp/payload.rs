//! What is sent: a batch of one signal, whatever the signal.

use super::super::batch::Piece;
use super::super::json;
use super::encode;
use crate::telemetry::Signal;

/// How a request's body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::export) enum Encoding {
    /// Binary Protobuf.
    Protobuf,
    /// Protobuf's JSON mapping, as the OTLP specification changes it.
    Json,
}

/// The items, spans or data points, of one export request.
pub(in crate::export) trait Payload: Send + Sync + Sized + 'static {
    /// What it is.
    const SIGNAL: Signal;

    /// How many items; what is counted as delivered or lost.
    fn items(&self) -> u64;

    /// The body of the request, written once for all attempts.
    fn encode(&self, encoding: Encoding) -> Vec<u8>;

    /// Two halves, where a backend finds this too large; back again where it is a single item.
    fn split(self) -> Result<(Self, Self), Self>;
}

/// Spans as they come from the queue.
#[derive(Debug)]
pub(super) struct Spans(pub(super) Vec<Piece>);

impl Payload for Spans {
    const SIGNAL: Signal = Signal::Traces;

    fn items(&self) -> u64 {
        self.0.iter().map(|piece| piece.len() as u64).sum()
    }

    fn encode(&self, encoding: Encoding) -> Vec<u8> {
        match encoding {
            Encoding::Protobuf => encode::body(&self.0),
            Encoding::Json => {
                let mut text = Vec::new();
                json::encode(&self.0, &mut text);
                text
            }
        }
    }

    fn split(self) -> Result<(Self, Self), Self> {
        let spans: usize = self.0.iter().map(Piece::len).sum();
        if spans < 2 {
            return Err(self);
        }
        let (mut front, mut back, mut left) = (Vec::new(), Vec::new(), spans / 2);
        for mut piece in self.0 {
            if piece.len() <= left {
                left -= piece.len();
                front.push(piece);
            } else {
                if left > 0 {
                    front.push(piece.split_front(std::mem::take(&mut left)));
                }
                back.push(piece);
            }
        }
        Ok((Self(front), Self(back)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::export::batch::pieces;
    use crate::export::fixtures::{resource, span};

    fn starts(spans: &Spans) -> Vec<u64> {
        spans.0.iter().flat_map(Piece::items).map(|(_, span)| span.start).collect()
    }

    #[test]
    fn halves_hold_every_span_once_and_in_order() {
        let resource = Arc::new(resource("a"));
        for n in [2, 3, 255, 256, 257, 511, 512, 1_000] {
            let items = (0..n).map(|at| (Arc::clone(&resource), span("GET", at, at)));
            let (front, back) = Spans(pieces(items.collect())).split().unwrap();
            assert_eq!((front.items(), back.items()), (n / 2, n - n / 2));
            assert_eq!([starts(&front), starts(&back)].concat(), (0..n).collect::<Vec<_>>());
        }
        for n in [0, 1] {
            let items = (0..n).map(|at| (Arc::clone(&resource), span("GET", at, at)));
            assert_eq!(Spans(pieces(items.collect())).split().unwrap_err().items(), n);
        }
    }
}
