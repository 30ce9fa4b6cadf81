//! What watches a workload: a running Sonde, or tcpdump, whose capture Sonde replays.

use std::net::UdpSocket;

use crate::agent::{Agent, Run};
use crate::calls::fresh;
use crate::captures::Tcpdump;
use crate::gate;
use crate::namespaces::Place;
use crate::spans::Span;

/// Who watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Eye {
    /// Sonde, with a hook family.
    Hooks(String),
    /// tcpdump.
    Capture,
}

/// It, watching.
pub enum Watch {
    /// Sonde.
    Agent(Box<Agent>),
    /// tcpdump, and what its capture ends with: a datagram to a socket of our own.
    Capture(Tcpdump, UdpSocket),
}

/// What was seen.
pub struct Seen {
    /// Spans of both ends.
    pub spans: Vec<Span>,
    /// What Sonde said.
    pub log: String,
}

impl Eye {
    /// Each hook family that this kernel has, and a capture. `SONDE_TEST_HOOKS=capture` for that alone.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let only = std::env::var("SONDE_TEST_HOOKS").is_ok();
        let families = gate::hook_families().into_iter();
        let mut eyes: Vec<Self> = families
            .map(|family| if family == "capture" { Self::Capture } else { Self::Hooks(family) })
            .collect();
        if !only {
            eyes.push(Self::Capture);
        }
        eyes
    }

    /// Each hook family: for what only processes tell.
    #[must_use]
    pub fn live() -> Vec<Self> {
        Self::all().into_iter().filter(|eye| *eye != Self::Capture).collect()
    }

    /// Begins to watch these ports.
    ///
    /// # Panics
    /// When it cannot.
    #[must_use]
    pub fn open(&self, ports: &[u16]) -> Watch {
        match self {
            Self::Hooks(family) => Watch::Agent(Box::new(Run::ports(ports).hooks(family).start())),
            Self::Capture => {
                let mark = UdpSocket::bind("127.0.0.1:0").expect("a port");
                let own = mark.local_addr().expect("its address").port();
                let filter: String = ports.iter().map(|port| format!("tcp port {port} or ")).collect();
                let filter = format!("{filter}udp port {own}");
                Watch::Capture(Tcpdump::start(&Place::default(), "lo", &[], &filter), mark)
            }
        }
    }
}

impl std::fmt::Display for Eye {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Hooks(family) => write!(to, "{family}"),
            Self::Capture => write!(to, "capture"),
        }
    }
}

impl Watch {
    /// The spans of what has gone by until now.
    ///
    /// # Panics
    /// When Sonde died, or packets are missing in the capture.
    #[must_use]
    pub fn finish(self) -> Seen {
        match self {
            Self::Agent(agent) => {
                let finished = agent.finish();
                Seen { spans: finished.spans, log: finished.log }
            }
            Self::Capture(tcpdump, mark) => {
                let last = fresh("the end of the capture ");
                let to = mark.local_addr().expect("its address");
                mark.send_to(last.as_bytes(), to).expect("sent");
                let capture = tcpdump.finish(&last, 1);
                let (spans, log) = capture.replay(&capture.file, "both");
                Seen { spans, log }
            }
        }
    }
}
