//! Sessions and the spans of their handshakes.

use std::sync::Arc;

use crate::proto::websocket::Session;
use crate::proto::{Call, Event, ExchangeId, Upgrade};
use crate::span::correlate::scene::{End, MS, US};
use crate::span::{Correlator, CorrelatorConfig};

/// A request for a handshake, on its process.
fn handshake() -> End {
    End::server(40, 41, 3, [250, 250, 400, 410].map(|time| MS + time * US))
}

/// A handshake and the session behind it, which is told before the handshake's span is decided, or long after.
#[test]
fn a_session_hangs_below_its_handshake() {
    for early in [false, true] {
        let mut correlator = Correlator::new(CorrelatorConfig::default(), Arc::default());
        let id = ExchangeId(1);
        let mut shaken = None;
        let mut out = Vec::new();
        for (_, mut event) in handshake().events(id) {
            if let Event::End(exchange) = &mut event {
                let Call::Http(call) = &mut exchange.call;
                call.upgraded = Some(Upgrade::WebSocket);
                shaken = Some(exchange.clone());
            }
            correlator.event(event, &mut out);
        }
        assert!(out.is_empty(), "its other end may come");
        let mut session = shaken.unwrap();
        session.opening.id = ExchangeId(2);
        let Call::Http(call) = &mut session.call;
        let end = MS + 9_000 * MS;
        call.session = Some(Box::new(Session { end, ..Session::default() }));
        let followed = Event::Followed { id, session: Some(session) };
        if early {
            correlator.event(followed, &mut out);
            assert!(out.is_empty(), "nothing to hang below yet");
            correlator.tick(1_000 * MS, &mut out);
        } else {
            correlator.tick(1_000 * MS, &mut out);
            assert_eq!((out.len(), correlator.sessions()), (1, 1));
            correlator.event(followed, &mut out);
        }
        let [handshake, session] = &out[..] else { panic!("{} spans", out.len()) };
        assert_eq!(session.context.trace_id, handshake.context.trace_id);
        assert_ne!(session.context.span_id, handshake.context.span_id);
        assert_eq!(session.parent.as_ref().unwrap().span_id, handshake.context.span_id);
        assert_eq!(session.end, end);
        assert_eq!((correlator.held(), correlator.sessions()), (0, 0), "nothing is kept");
    }
}

/// One of which nobody saw the end is forgotten.
#[test]
fn a_session_without_an_end() {
    let mut correlator = Correlator::new(CorrelatorConfig::default(), Arc::default());
    let mut out = Vec::new();
    for (_, mut event) in handshake().events(ExchangeId(1)) {
        if let Event::End(exchange) = &mut event {
            let Call::Http(call) = &mut exchange.call;
            call.upgraded = Some(Upgrade::WebSocket);
        }
        correlator.event(event, &mut out);
    }
    correlator.tick(1_000 * MS, &mut out);
    assert_eq!(correlator.sessions(), 1);
    correlator.event(Event::Followed { id: ExchangeId(1), session: None }, &mut out);
    assert_eq!((out.len(), correlator.sessions()), (1, 0));
}
