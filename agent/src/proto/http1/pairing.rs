//! Which response answers which request: the first that has none (RFC 9112, section 9.3), unless something went unseen.

use std::collections::VecDeque;

use super::Http1;
use super::body::Body;
use super::half::State;
use crate::conn::{Direction, Nanos};
use crate::proto::HttpCall;
use crate::proto::grpc::web;
use crate::proto::parser::{Context, Onset};
use crate::proto::{Call, Event, Exchange, ExchangeId, Failure, Milestone, Quality};
use crate::telemetry::Lost;

/// Exchanges open at once on one connection; past it the newest are not reported, and counted.
const OPEN: usize = 256;

/// An exchange that is not over.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) exchange: Box<Exchange>,
    /// Its response has no body (RFC 9110, section 9.3.2).
    pub(super) is_head: bool,
    /// A 2xx answer makes the connection a tunnel.
    pub(super) is_connect: bool,
    /// The last byte of the request was seen.
    requested: bool,
    /// The last byte of the response was seen.
    answered: bool,
    /// Began while pairing was in doubt: gets no response.
    doubtful: bool,
}

impl Open {
    pub(super) fn new(exchange: Box<Exchange>, method: &[u8]) -> Self {
        Self {
            exchange,
            is_head: method == b"HEAD",
            is_connect: method == b"CONNECT",
            requested: false,
            answered: false,
            doubtful: false,
        }
    }

    /// The weightier of two marks stays.
    pub(super) fn mark(&mut self, quality: Quality) {
        quality.add_to(&mut self.exchange.quality);
    }

    fn end(mut self, failure: Option<Failure>, context: &mut Context<'_>) {
        self.exchange.failure = failure;
        self.exchange.failed = failure.map(|_| context.now);
        context.events.push(Event::End(self.exchange));
    }
}

/// What HTTP says of an exchange of this parser.
pub(super) fn http(exchange: &mut Exchange) -> &mut HttpCall {
    let Call::Http(call) = &mut exchange.call;
    call
}

/// Takes what a body of gRPC-Web said.
fn said(web: Option<Box<web::Reader>>, of_request: bool, exchange: &mut Exchange) {
    let (Some(web), Some(rpc)) = (web, http(exchange).rpc.as_deref_mut()) else { return };
    let web::Read { messages, status, message } = web.read();
    if of_request {
        rpc.request = messages;
        return;
    }
    rpc.response = messages;
    // That of a call without messages stands in the head.
    rpc.status = rpc.status.or(status);
    rpc.message = rpc.message.take().or(message);
}

/// The exchanges of a connection that are not over, in the order of their requests.
#[derive(Debug)]
pub(super) struct Outstanding {
    open: VecDeque<Open>,
    /// Requests behind them that are not reported, for want of room.
    untracked: u32,
    /// A request may have gone unseen, or a response: see the module's documentation.
    doubt: bool,
    /// The client was seen to send a request before the answer to the one before.
    pipelines: bool,
    /// It looks so, unless the answer was lost.
    may_pipeline: bool,
    /// Not seen from the first byte on.
    joined: bool,
    /// What all its exchanges say.
    mark: Option<Quality>,
    /// A response was paired with a request.
    paired: bool,
    /// Requests and responses are known to match: seen from the first byte on, or once every request was answered.
    aligned: bool,
}

impl Outstanding {
    pub(super) fn new(onset: Onset) -> Self {
        let fresh = onset == Onset::FirstByte;
        Self {
            open: VecDeque::new(),
            untracked: 0,
            doubt: false,
            pipelines: false,
            may_pipeline: false,
            joined: !fresh,
            mark: (onset == Onset::Joined).then_some(Quality::Joined),
            paired: false,
            aligned: fresh,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Bytes went unseen: what looked like pipelining was perhaps a lost response.
    pub(super) fn gap(&mut self) {
        self.may_pipeline = false;
    }

    /// What answers what is in doubt, though nothing of an exchange was lost yet.
    pub(super) fn suspend(&mut self) {
        self.doubt = true;
    }

    /// Room for one more; else counts it.
    pub(super) fn has_room(&mut self, context: &Context<'_>) -> bool {
        if self.doubt && self.open.len() >= OPEN {
            // They get no response anyway.
            return false;
        }
        if self.untracked == 0 && self.open.len() < OPEN {
            return true;
        }
        self.untracked = self.untracked.saturating_add(1);
        context.lose(Lost::ExchangesFull);
        false
    }

    pub(super) fn push(&mut self, mut open: Open) {
        if let Some(mark) = self.mark {
            open.mark(mark);
        }
        if self.doubt {
            open.doubtful = true;
            open.mark(Quality::Gap);
        }
        self.open.push_back(open);
    }

    /// The exchange that a final response answers; `None` where it is not known, or not reported.
    pub(super) fn answer(
        &mut self,
        status: u16,
        began: Nanos,
        context: &mut Context<'_>,
    ) -> Option<&mut Open> {
        if self.doubt {
            // A sign of life: whatever waits for longest is over by now, or will not be known.
            if let Some(open) = self.open.pop_front_if(|open| open.doubtful) {
                open.end(None, context);
            }
            return None;
        }
        self.pipelines |= std::mem::take(&mut self.may_pipeline);
        let unanswered = self.open.iter().position(|open| open.exchange.response.is_none());
        if unanswered
            .and_then(|at| self.open.get(at))
            .is_some_and(|open| open.exchange.opening.first.time > began)
        {
            // It began before that request did: the rest of an earlier one's, whose own request was not seen.
            return None;
        }
        if unanswered.is_none() {
            if self.untracked > 0 {
                self.untracked -= 1;
            } else if self.joined && self.paired && status != 408 {
                // One answer more than requests seen: on a connection joined late, requests were under way.
                self.pipelines = true;
                self.doubt = true;
                context.lose(Lost::Desync);
            }
        }
        let open = self.open.get_mut(unanswered?);
        self.paired = true;
        open
    }

    /// Takes the exchange out whose answer comes in another protocol; none where it is not known which.
    pub(super) fn hand_over(&mut self) -> Option<Box<Exchange>> {
        let is_it = |open: &mut Open| open.requested && open.exchange.response.is_none();
        if self.doubt { None } else { self.open.pop_front_if(is_it).map(|open| open.exchange) }
    }

    fn find(&mut self, id: Option<ExchangeId>) -> Option<usize> {
        let id = id?;
        self.open.iter().position(|open| open.exchange.opening.id == id)
    }

    /// Marks one exchange.
    pub(super) fn mark(&mut self, id: Option<ExchangeId>, quality: Quality) {
        if let Some(open) = self.find(id).and_then(|at| self.open.get_mut(at)) {
            open.mark(quality);
        }
    }

    /// Marks those that have their answer, and whose request was not seen to its end.
    pub(super) fn mark_answered(&mut self) {
        for open in self.open.iter_mut().filter(|open| open.answered) {
            open.mark(Quality::Gap);
        }
    }

    fn end(&mut self, at: usize, failure: Option<Failure>, context: &mut Context<'_>) {
        if let Some(open) = self.open.remove(at) {
            open.end(failure, context);
        }
    }
}

impl Http1 {
    /// A request begins: what that says of the messages before it.
    pub(super) fn before_request(&mut self, direction: Direction, context: &mut Context<'_>) {
        let before = self.half(direction).before;
        let takes_turn = before.turn && !self.outstanding.pipelines;
        if self.outstanding.doubt {
            if takes_turn || before.quiet {
                self.end_open(None, Some(Quality::Gap), context);
                self.half(direction.opposite()).reset(State::Head);
                self.outstanding.doubt = false;
                self.outstanding.untracked = 0;
            }
            return;
        }
        if takes_turn {
            let response = self.half(direction.opposite());
            match response.state {
                State::Body(body) if body.is_open_ended() => self.complete(direction.opposite(), context),
                // To what, is not known, so neither was it whether it had a body (HEAD).
                State::Body(_) if response.exchange.is_none() => response.reset(State::Head),
                _ => {}
            }
        }
        if !self.outstanding.is_empty() {
            self.outstanding.may_pipeline = true;
            if !self.outstanding.aligned {
                // Joined among requests under way: how many, is not known.
                self.outstanding.pipelines |= !before.turn;
                self.doubt(context);
            }
        }
    }

    /// A final response begins: what that says of the request direction.
    pub(super) fn before_response(&mut self, direction: Direction, context: &mut Context<'_>) {
        let requests = direction.opposite();
        let waiting = self.outstanding.open.iter().any(|open| open.exchange.response.is_none());
        let began = self.half(direction).first.time;
        let request = self.half(requests);
        let asked = request.line_seen && request.first.time <= began;
        if asked && !waiting && !self.outstanding.doubt && self.outstanding.untracked == 0 {
            // Answered before its head was all there (431, 400), or the rest of it was lost.
            self.cut_head(requests, Some(Quality::Truncated), context);
        }
        let half = self.half(requests);
        if let State::Body(Body::Unknown | Body::Terminator(_)) = half.state {
            let (exchange, last) = (half.exchange, half.last);
            if let Some(open) =
                self.outstanding.find(exchange).and_then(|at| self.outstanding.open.get_mut(at))
                && !open.requested
            {
                open.requested = true;
                open.exchange.request.last = last;
                let id = open.exchange.opening.id;
                let what = Milestone::Requested { body_size: None };
                context.events.push(Event::Milestone { id, what, stamp: last });
            }
        }
    }

    /// The exchange of the message being read has its answer, or is over.
    pub(super) fn is_answered(&mut self, direction: Direction) -> bool {
        let exchange = self.half(direction).exchange;
        let open = self.outstanding.find(exchange).and_then(|at| self.outstanding.open.get(at));
        open.is_none_or(|open| open.answered)
    }

    /// The message of one direction is over.
    pub(super) fn complete(&mut self, direction: Direction, context: &mut Context<'_>) {
        let is_request = self.requests == Some(direction);
        let half = self.half(direction);
        half.state = State::Head;
        let (last, body_size) = (half.last, half.content.size.known());
        let web = half.content.web.take();
        let Some(at) = half.exchange.take().and_then(|id| self.outstanding.find(Some(id))) else { return };
        let Some(open) = self.outstanding.open.get_mut(at) else { return };
        let exchange = &mut open.exchange;
        said(web, is_request, exchange);
        if is_request {
            exchange.request.last = last;
            exchange.request.body_size = body_size;
            if !std::mem::replace(&mut open.requested, true) {
                let id = exchange.opening.id;
                let what = Milestone::Requested { body_size };
                context.events.push(Event::Milestone { id, what, stamp: last });
            }
        } else if let Some(response) = &mut exchange.response {
            response.last = last;
            response.body_size = body_size;
            open.answered = true;
        }
        if open.requested && open.answered {
            self.outstanding.end(at, None, context);
            self.outstanding.aligned |= self.outstanding.is_empty();
        }
    }

    /// Framing went unseen: from here on it is not known which response answers which request.
    pub(super) fn doubt(&mut self, context: &mut Context<'_>) {
        context.lose(Lost::Desync);
        self.outstanding.doubt = true;
        let Some(requests) = self.requests else { return };
        // An answer that has begun belongs to its request; how far it goes is the body's business.
        let response = self.half(requests.opposite());
        let answering = if matches!(response.state, State::Body(_)) { response.exchange } else { None };
        self.end_open(answering, Some(Quality::Gap), context);
        if let Some(open) = self.outstanding.open.front_mut()
            && !open.requested
        {
            open.requested = true;
            open.mark(Quality::Gap);
        }
    }

    /// The connection carries no more answers. Exchanges that have theirs are over without a failure. `None`: Sonde
    /// stops, and what is not answered has no end.
    pub(super) fn fail_all(&mut self, failure: Option<Failure>, context: &mut Context<'_>) {
        for direction in [Direction::Write, Direction::Read] {
            let is_request = self.requests == Some(direction);
            let half = self.half(direction);
            let (last, seen) = (half.last, half.content.size.known());
            let web = half.content.web.take();
            let Some(at) = half.exchange.take().and_then(|id| self.outstanding.find(Some(id))) else {
                continue;
            };
            let Some(open) = self.outstanding.open.get_mut(at) else { continue };
            said(web, is_request, &mut open.exchange);
            let message =
                if is_request { Some(&mut open.exchange.request) } else { open.exchange.response.as_mut() };
            if let Some(message) = message {
                message.last = last;
                // What moved before it broke off, unless some of that is not known, or nobody looked to its end.
                let known = failure.is_some() && open.exchange.quality != Some(Quality::Gap);
                message.body_size = seen.filter(|_| known);
            }
        }
        self.outstanding.untracked = 0;
        for open in self.outstanding.open.drain(..) {
            if open.answered || open.doubtful {
                open.end(None, context);
            } else if failure.is_some() {
                open.end(failure, context);
            }
        }
    }

    /// Ends all exchanges but one, with this mark: what of them is not over is not known.
    pub(super) fn end_open(
        &mut self,
        keep: Option<ExchangeId>,
        mark: Option<Quality>,
        context: &mut Context<'_>,
    ) {
        let mut at = 0;
        while let Some(open) = self.outstanding.open.get_mut(at) {
            if keep == Some(open.exchange.opening.id) {
                at += 1;
                continue;
            }
            if let Some(mark) = mark {
                open.mark(mark);
            }
            self.outstanding.end(at, None, context);
        }
    }
}
