//! Sessions that follow an exchange on its connection, told when they are over: below the span of their handshake, which was
//! told long before.

use std::collections::BTreeMap;

use super::{Correlator, Finished};
use crate::proto::{Call, Exchange, ExchangeId, Upgrade};
use crate::span::{ParentContext, SpanContext};

#[cfg(test)]
mod tests;

/// Handshakes that are remembered at most; at the limit the session of the oldest is not told. As many as connections.
const SESSIONS: usize = 65_536;

/// Sessions over before the span of their handshake was decided, kept for it at most; at the limit the oldest is not told.
const EARLY: usize = 4096;

/// Sessions, by the exchange that was their handshake.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    /// Under way: the span of the handshake, and whether it was left out.
    open: BTreeMap<ExchangeId, (SpanContext, bool)>,
    /// Over before that span was decided.
    early: BTreeMap<ExchangeId, Box<Exchange>>,
}

impl Sessions {
    /// How many have not ended.
    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    /// The span of an exchange is told. Returns the session that followed it, where that is over.
    pub(super) fn told(
        &mut self,
        id: ExchangeId,
        exchange: &Exchange,
        context: &SpanContext,
        left_out: bool,
    ) -> Option<Box<Exchange>> {
        let Call::Http(call) = &exchange.call;
        if call.upgraded != Some(Upgrade::WebSocket) {
            return None;
        }
        bound(&mut self.open, SESSIONS);
        self.open.insert(id, (context.clone(), left_out));
        self.early.remove(&id)
    }
}

impl Correlator {
    /// What followed an exchange is over.
    pub(super) fn followed(
        &mut self,
        id: ExchangeId,
        session: Option<Box<Exchange>>,
        out: &mut Vec<Finished>,
    ) {
        let Sessions { open, early } = &mut self.sessions;
        let handshake = open.remove(&id);
        let Some(exchange) = session else { return };
        let Some((handshake, left_out)) = handshake else {
            // Its span waits for its parent, or was given up.
            if self.nodes.find(id).is_some_and(|node| node.exchange.is_some()) {
                bound(early, EARLY);
                early.insert(id, exchange);
            }
            return;
        };
        let Call::Http(call) = &exchange.call;
        let Some(session) = &call.session else { return };
        let start = exchange.request.first.time;
        let end = session.end.max(start);
        let parent = ParentContext { span_id: handshake.span_id, is_remote: false };
        let context = SpanContext { span_id: self.ids.span(exchange.opening.id), ..handshake };
        let tgid = exchange.opening.first.tgid;
        let (parent, confidence, measured) = (Some(parent), None, false);
        out.push(Finished { exchange, context, parent, confidence, start, end, tgid, left_out, measured });
    }
}

fn bound<T>(sessions: &mut BTreeMap<ExchangeId, T>, most: usize) {
    if sessions.len() >= most {
        sessions.pop_first();
    }
}
