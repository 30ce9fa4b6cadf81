//! One request and its response, as the protocol defines them: what parsers produce and what spans are made of.

use std::sync::Arc;

use crate::conn::{ConnKey, Ends, Nanos, Role, Stamp};
use crate::proto::HttpCall;
use crate::proto::otlp::Export;

/// Names an exchange within one run of Sonde. Ids rise in the order in which exchanges began to be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExchangeId(pub u64);

/// What a parser says, in the order in which the bytes say it. Each exchange has one `Begin`, at most one of each
/// [`Milestone`], and one `End`, also where its connection broke off.
#[derive(Clone, Debug)]
pub enum Event {
    /// The head of a request is known.
    Begin(Opening),
    /// Something about an open exchange that parent finding needs before its end.
    Milestone {
        /// Which.
        id: ExchangeId,
        /// What.
        what: Milestone,
        /// When and on which thread.
        stamp: Stamp,
    },
    /// The exchange is over.
    End(Box<Exchange>),
    /// What followed an exchange on its connection is over: a WebSocket session. One for each exchange that was handed on to
    /// one ([`Upgrade::WebSocket`](super::Upgrade::WebSocket)), behind its `End`.
    Followed {
        /// The exchange that was its handshake.
        id: ExchangeId,
        /// The session, told as an exchange of its own id; `None` where nobody saw its end.
        session: Option<Box<Exchange>>,
    },
}

/// Points between the beginning and the end of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Milestone {
    /// The last byte of the request.
    Requested {
        /// As [`Message::body_size`].
        body_size: Option<u64>,
    },
    /// The first byte of the (final) response.
    Responding,
}

/// An exchange when its request's head is known.
#[derive(Clone, Debug)]
pub struct Opening {
    /// Its name.
    pub id: ExchangeId,
    /// Its connection.
    pub conn: ConnKey,
    /// The connection's ends.
    pub ends: Arc<Ends>,
    /// Which end this process is. For HTTP whoever writes the request is the client.
    pub role: Role,
    /// First byte of the request.
    pub first: Stamp,
    /// Where the request begins in its direction: with the pair it names the exchange for both ends.
    pub position: u64,
    /// When and on which thread the process called connect, for the first exchange of a connection that it opened.
    pub connect: Option<Stamp>,
    /// Trace context that the request carries; told when the exchange begins, and not kept.
    pub trace: Option<Box<TraceHeaders>>,
    /// Its path is one of those that are counted, but not exported.
    pub excluded: bool,
    /// It exports telemetry, or may do so.
    pub export: Option<Export>,
}

/// A request and its response, or what there is of them.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// What was known when it began.
    pub opening: Opening,
    /// The request.
    pub request: Message,
    /// The response; `None` where none was seen.
    pub response: Option<Message>,
    /// Why it did not end as it should have; `None` where it did.
    pub failure: Option<Failure>,
    /// When that was known, on the kernel's clock: the close of the connection, the end of the patience.
    pub failed: Option<Nanos>,
    /// What was not seen of it; `None` where all that matters was.
    pub quality: Option<Quality>,
    /// What the protocol says.
    pub call: Call,
}

impl Exchange {
    /// Bytes that it holds, estimated.
    #[must_use]
    pub fn weight(&self) -> usize {
        let Call::Http(call) = &self.call;
        let shared = [&call.host, &call.user_agent].into_iter().flatten().map(|text| text.len());
        let message = call.rpc.as_deref().and_then(|rpc| rpc.message.as_ref());
        let owned = [&call.forwarded_for, &call.forwarded_proto, &call.scheme].into_iter().flatten();
        let owned = owned.chain(message).map(|text| text.len());
        let texts = shared.chain(owned).sum::<usize>();
        let captured =
            call.headers.iter().map(|header| size_of_val(header) + header.value.len()).sum::<usize>();
        size_of::<Self>() + call.method.len() + call.target.len() + texts + captured
    }
}

/// One direction of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// First byte.
    pub first: Stamp,
    /// Last byte that was seen.
    pub last: Stamp,
    /// Bytes of the body as transferred, without framing (for HTTP/1: after removing the chunked coding); `None` where it
    /// is not known.
    pub body_size: Option<u64>,
}

/// How an exchange broke off. `error.type` in spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The connection was reset.
    ConnectionReset,
    /// The connection was closed before the response was complete.
    Closed,
    /// Either side gave up waiting.
    Timeout,
    /// Either side of HTTP/2 gave the stream up, or its connection: an error code of RFC 9113, section 7.
    Stream(u32),
}

/// What was not seen. In order of weight: the first that applies is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quality {
    /// Bytes that mattered were lost.
    Gap,
    /// The head was longer than what is captured of it.
    Truncated,
    /// Nothing of this exchange, but its connection is older than Sonde: what it carried before, nobody knows.
    Joined,
}

impl Quality {
    /// The weightier of two marks stays.
    pub(super) fn add_to(self, mark: &mut Option<Self>) {
        *mark = Some(mark.map_or(self, |before| before.min(self)));
    }
}

/// Trace context of a request: raw values in the order received, judged by `span::context`. Empty where absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceHeaders {
    /// Every `traceparent` value: more than one is malformed (W3C Trace Context, section 3.2).
    pub traceparent: Vec<Box<[u8]>>,
    /// Every `tracestate` value.
    pub tracestate: Vec<Box<[u8]>>,
    /// Every `baggage` value.
    pub baggage: Vec<Box<[u8]>>,
}

/// What the protocol says of an exchange.
#[derive(Clone, Debug)]
pub enum Call {
    /// HTTP of any version.
    Http(HttpCall),
}
