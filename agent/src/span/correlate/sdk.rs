//! Processes that trace themselves, as far as spans depend on it: who is one, which spans are left to them, and what hangs
//! below a span that is not exported.

use std::net::SocketAddr;

use super::{Above, Correlator, Link, Node};
use crate::conn::{Address, Role};
use crate::proto::Opening;
use crate::proto::otlp::{self, Export, Exported};
use crate::span::sample::SAMPLED;
use crate::span::{Notice, OnSdk, ParentContext};
use crate::telemetry::LeftOut;

/// Addresses that exports go to which are remembered at most; on connections joined late, what goes to others is taken for calls.
const RECEIVERS: usize = 1024;

impl Correlator {
    /// Does something else with what processes make themselves from here on.
    pub fn set_on_sdk(&mut self, on_sdk: OnSdk) {
        self.config.on_sdk = on_sdk;
    }

    /// Whether requests that export telemetry are spans of those that serve them, from here on.
    pub fn show_exports(&mut self, shown: bool) {
        self.config.exports_served = shown;
    }

    /// Contexts that this process writes show nothing of who makes the spans that they name.
    pub fn writes_contexts_anyway(&mut self, tgid: u32) {
        self.process(tgid).shown.writes_anyway();
    }

    /// What processes have shown since the last call.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// The export that an exchange is: one that nobody saw the path of, by who receives it.
    pub(super) fn export(&self, opening: &Opening) -> Option<Export> {
        let may_be = |server: SocketAddr| server.port() == otlp::PORT || self.receivers.contains(&server);
        opening
            .export
            .filter(|export| export.what != Exported::Unknown || receiver(opening).is_some_and(may_be))
    }

    /// Where exports are seen to go.
    pub(super) fn learn_receiver(&mut self, opening: &Opening) {
        let is_known = opening.export.is_some_and(|export| export.what != Exported::Unknown);
        if let Some(server) = receiver(opening)
            && is_known
            && self.config.processes
            && self.receivers.len() < RECEIVERS
        {
            self.receivers.insert(server);
        }
    }

    /// A process reads a request.
    pub(super) fn watch_request(&mut self, node: &Node) {
        if node.export.is_some() && self.config.processes {
            self.leaves_out = true;
            self.process(node.tgid).shown.receives();
        }
    }

    /// A process makes a call.
    pub(super) fn watch_call(&mut self, node: &Node) {
        if !self.config.processes {
            return;
        }
        let tgid = node.tgid;
        let notice = match (node.export, &node.carried) {
            (Some(export), _) => self.process(tgid).shown.exports(tgid, export),
            // The request came with this trace, and the call goes on with a span of it that was in no request.
            (None, Some(carried)) if node.taken && carried.flags & SAMPLED != 0 => {
                let context = (carried.trace_id, carried.parent_id);
                let process = self.process(tgid);
                let for_request = process.serves_above(context);
                process.shown.writes(tgid, for_request)
            }
            _ => None,
        };
        self.leaves_out |= node.export.is_some() || notice.is_some();
        if let Some(notice) = notice {
            self.counters.notice(notice.evidence);
            self.notices.push(notice);
        }
    }

    /// Why a span is not exported, whatever is sampled.
    pub(super) fn left_out(&self, node: &Node) -> Option<LeftOut> {
        if !self.leaves_out {
            return None;
        }
        if node.export.is_some() && (node.role == Role::Client || !self.config.exports_served) {
            return Some(LeftOut::Export);
        }
        let has_spans = || self.processes.get(&node.tgid).is_some_and(|process| process.shown.has_spans());
        (self.config.on_sdk != OnSdk::Keep && has_spans()).then_some(LeftOut::Sdk)
    }

    /// Whether metrics are made of the exchanges of a process.
    pub(super) fn is_measured(&self, tgid: u32) -> bool {
        let has_metrics = || self.processes.get(&tgid).is_some_and(|process| process.shown.has_metrics());
        !self.leaves_out || self.config.on_sdk != OnSdk::Skip || !has_metrics()
    }

    /// The span that an exchange's hangs below: of the exchange above, or, where that is not exported, the one that the request
    /// names, or what that one hangs below. `None` where the exchange above is not known any more.
    pub(super) fn above(&self, node: &Node) -> Option<Above> {
        let carried = || {
            let carried = node.carried.as_ref();
            carried.map(|carried| ParentContext { span_id: carried.parent_id, is_remote: true })
        };
        let (above, span, same_process) = match node.link {
            Link::Root | Link::Open => return Some(Above::default()),
            Link::Remote => return Some(Above { parent: carried(), guessed: false }),
            Link::Under { node, span, same_process } => (node, span, same_process),
        };
        let exported = || {
            let parent = Some(ParentContext { span_id: span, is_remote: !same_process });
            Some(Above { parent, guessed: node.guessed })
        };
        if !self.leaves_out {
            return exported();
        }
        let above = self.nodes.find(above)?;
        if self.left_out(above).is_none() {
            return exported();
        }
        if node.role == Role::Server && node.carried.is_some() {
            return Some(Above { parent: carried(), guessed: false });
        }
        let Above { parent, guessed } = above.above.clone();
        let parent =
            parent.map(|parent| ParentContext { is_remote: parent.is_remote || !same_process, ..parent });
        Some(Above { parent, guessed: guessed || node.guessed })
    }
}

/// The address that a request is sent to.
fn receiver(opening: &Opening) -> Option<SocketAddr> {
    let server = match opening.role {
        Role::Client => &opening.ends.peer,
        Role::Server => &opening.ends.local,
    };
    match server {
        // Sockets of both families write addresses of the one as those of the other.
        Address::Inet(address) => Some(SocketAddr::new(address.ip().to_canonical(), address.port())),
        Address::Unix(_) => None,
    }
}
