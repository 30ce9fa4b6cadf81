//! Sizes of bodies that one end of an exchange lacks and the other knows: the calls of a reader with a large buffer cut a
//! chunked body where no size line is copied, while the writer told each. Only the two ends of one hop lend to each other,
//! and only to an end that saw its messages end as they should.

use super::{Correlator, Finished};
use crate::conn::Role;
use crate::proto::{Exchange, ExchangeId, Quality};
use crate::span::join;
use crate::span::node::Node;

impl Correlator {
    /// Notes with an exchange and its other end what an end has found out.
    pub(super) fn learn_sizes(&mut self, id: ExchangeId, request: Option<u64>, response: Option<u64>) {
        let Some(node) = self.nodes.find_mut(id) else { return };
        node.take_sizes((request, response));
        let (sizes, other) = (node.sizes(), node.other);
        if let Some(other) = other.and_then(|other| self.nodes.find_mut(other)) {
            other.take_sizes(sizes);
        }
    }

    /// The two ends have met: each takes what the other knows.
    pub(super) fn share_sizes(&mut self, client: ExchangeId, server: ExchangeId) {
        if let Some(client) = self.nodes.find(client).map(Node::sizes) {
            self.learn_sizes(server, client.0, client.1);
        }
    }

    /// An exchange has ended: takes from it what it knows. Where it lacks a size, its span waits a moment for the other end,
    /// unless that will not come any more.
    pub(super) fn end_sizes(&mut self, id: ExchangeId) {
        let Some(node) = self.nodes.find(id) else { return };
        let Some(exchange) = node.exchange.as_ref().filter(|exchange| passed_whole(exchange)) else { return };
        let own = own_sizes(exchange);
        self.learn_sizes(id, own.0, own.1);
        if self.lacks_sizes(id)
            && let Some(node) = self.nodes.find_mut(id)
        {
            node.awaits_sizes = true;
            self.size_queue.push_back((self.now.saturating_add(self.config.join_wait), id));
        }
    }

    /// The span waits no longer than there is something to wait for.
    pub(super) fn await_sizes(&mut self, id: Option<ExchangeId>, out: &mut Vec<Finished>) {
        let Some(id) = id.filter(|&id| self.nodes.find(id).is_some_and(|node| node.awaits_sizes)) else {
            return;
        };
        if !self.lacks_sizes(id) {
            self.stop_awaiting(id, out);
        }
    }

    /// Makes do with the sizes that are known.
    pub(super) fn stop_awaiting(&mut self, id: ExchangeId, out: &mut Vec<Finished>) {
        let awaited = self.nodes.find_mut(id).is_some_and(|node| std::mem::take(&mut node.awaits_sizes));
        if awaited {
            self.settle(id, out);
        }
    }

    /// A size is missing that the other end may yet tell.
    fn lacks_sizes(&self, id: ExchangeId) -> bool {
        let Some(node) = self.nodes.find(id) else { return false };
        let Some(exchange) = &node.exchange else { return false };
        let (request, response) = node.sizes();
        let complete = request.is_some() && (response.is_some() || exchange.response.is_none());
        let will_come = match node.other {
            Some(other) => self.nodes.find(other).is_some_and(|other| other.end.is_none()),
            // A server's record of the request always comes before what it answers: a call that was not met will not be.
            None => node.role == Role::Server && node.filed && join::may_be_local(&exchange.opening.ends),
        };
        !complete && will_come
    }
}

/// Writes what the other end knows into an exchange that lacks it.
pub(super) fn fill(exchange: &mut Exchange, (request, response): (Option<u64>, Option<u64>)) {
    if !passed_whole(exchange) {
        return;
    }
    exchange.request.body_size = exchange.request.body_size.or(request);
    if let Some(message) = &mut exchange.response {
        message.body_size = message.body_size.or(response);
    }
}

/// Both messages went by to their end: what broke off, or was not seen whole, may have carried less at this end than at the
/// other.
fn passed_whole(exchange: &Exchange) -> bool {
    exchange.failure.is_none() && matches!(exchange.quality, None | Some(Quality::Joined))
}

fn own_sizes(exchange: &Exchange) -> (Option<u64>, Option<u64>) {
    (exchange.request.body_size, exchange.response.and_then(|response| response.body_size))
}
