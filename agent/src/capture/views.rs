//! From which end the exchanges of a capture are told. There are no processes in it: who served and who called are
//! addresses.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use opentelemetry_semantic_conventions::resource as key;

use crate::conn::{Address, Ends, Pair, Role};
use crate::enrich::Resource;
use crate::proto::{Event, Exchange, ExchangeId, Opening};
use crate::span::{Attribute, AttributeValue};

/// Hosts that are remembered. At the limit all are forgotten, and described anew.
const HOSTS: usize = 8192;

/// `service.name` of what nobody named (OpenTelemetry, resource semantic conventions).
const SERVICE: &str = "unknown_service";

/// Which spans are made of an exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Perspective {
    /// The caller's
    #[default]
    Client,
    /// That of who answered
    Server,
    /// Both, the answer's under the call's
    Both,
}

/// Turns what parsers say of connections into what the ends say of it, and describes the ends.
#[derive(Debug)]
pub struct Views {
    perspective: Perspective,
    hosts: HashMap<IpAddr, Host, foldhash::fast::RandomState>,
    last: u32,
}

#[derive(Debug)]
struct Host {
    /// Stands for the process.
    number: u32,
    resource: Arc<Resource>,
}

impl Views {
    /// From these ends.
    #[must_use]
    pub fn new(perspective: Perspective) -> Self {
        Self { perspective, hosts: HashMap::default(), last: 0 }
    }

    /// Tells an event from each end that is wanted, the caller's first.
    pub fn each(&mut self, event: Event, mut to: impl FnMut(Event)) {
        match self.perspective {
            Perspective::Client => to(self.told(event, Role::Client, |id| id)),
            Perspective::Server => to(self.told(event, Role::Server, |id| id)),
            Perspective::Both => {
                to(self.told(event.clone(), Role::Client, |ExchangeId(id)| ExchangeId(id << 1)));
                to(self.told(event, Role::Server, |ExchangeId(id)| ExchangeId(id << 1 | 1)));
            }
        }
    }

    /// The resource of the end that an exchange is told from. What is true of it is its address: neither a process was
    /// seen, nor is it this machine.
    pub fn resource(&mut self, ends: &Ends) -> Arc<Resource> {
        Arc::clone(&self.host(ends).resource)
    }

    fn told(&mut self, event: Event, role: Role, name: impl Fn(ExchangeId) -> ExchangeId) -> Event {
        match event {
            Event::Begin(mut opening) => {
                self.turn(&mut opening, role, name);
                Event::Begin(opening)
            }
            Event::Milestone { id, what, mut stamp } => {
                // Of the processes only the opening's counts.
                stamp.tgid = 0;
                Event::Milestone { id: name(id), what, stamp }
            }
            Event::End(mut exchange) => {
                self.turn(&mut exchange.opening, role, name);
                let Exchange { opening, request, response, .. } = &mut *exchange;
                for message in [Some(request), response.as_mut()].into_iter().flatten() {
                    (message.first.tgid, message.last.tgid) = (opening.first.tgid, opening.first.tgid);
                }
                Event::End(exchange)
            }
            Event::Followed { id, mut session } => {
                if let Some(session) = &mut session {
                    self.turn(&mut session.opening, role, &name);
                }
                Event::Followed { id: name(id), session }
            }
        }
    }

    /// Turns an opening round where it was told from the other end.
    fn turn(&mut self, opening: &mut Opening, role: Role, name: impl Fn(ExchangeId) -> ExchangeId) {
        let ends = &*opening.ends;
        let (local, peer) =
            if opening.role == role { (&ends.local, &ends.peer) } else { (&ends.peer, &ends.local) };
        let (local, peer) = (local.clone(), peer.clone());
        // Only two ends can meet. Both were made of one, so that it does not matter which of them opened the connection.
        let pair = match (self.perspective, ends.pair) {
            (Perspective::Both, Some(Pair::Tcp { local: one, peer: other })) => Some(match role {
                Role::Client => Pair::Tcp { local: one.wrapping_sub(1), peer: other },
                Role::Server => Pair::Tcp { local: other, peer: one },
            }),
            _ => None,
        };
        let syn = u64::from(role == Role::Client);
        let ends = Ends { local, peer, pair, role: Some(role) };
        opening.first.tgid = self.host(&ends).number;
        opening.id = name(opening.id);
        opening.position = opening.position.saturating_add(syn);
        opening.ends = Arc::new(ends);
        opening.role = role;
    }

    fn host(&mut self, ends: &Ends) -> &Host {
        let ip = match &ends.local {
            Address::Inet(address) => address.ip(),
            Address::Unix(_) => IpAddr::from([0; 4]),
        };
        if self.hosts.len() >= HOSTS && !self.hosts.contains_key(&ip) {
            self.hosts.clear();
        }
        self.hosts.entry(ip).or_insert_with(|| {
            // Never one that was given before: exchanges of a forgotten host may be open.
            self.last = self.last.wrapping_add(1);
            Host { number: self.last, resource: Arc::new(describe(ip)) }
        })
    }
}

fn describe(ip: IpAddr) -> Resource {
    let text = |key: &'static str, value: &'static str| Attribute { key: key.into(), value: value.into() };
    let mut attributes = vec![text(key::SERVICE_NAME, SERVICE)];
    // By its definition without loopback addresses: those say nothing of which host it is.
    if !ip.is_loopback() && !ip.is_unspecified() {
        let value = AttributeValue::StrArray(vec![ip.to_string().into()]);
        attributes.push(Attribute { key: key::HOST_IP.into(), value });
    }
    attributes.push(text(key::TELEMETRY_DISTRO_NAME, "sonde"));
    attributes.push(text(key::TELEMETRY_DISTRO_VERSION, env!("CARGO_PKG_VERSION")));
    Resource { attributes }
}
