//! One workload, seen in every way at once: by an agent of each hook family, and in what tcpdump captured, replayed.

use std::io::Write;
use std::net::{TcpListener, TcpStream};

use crate::agent::{Agent, Run};
use crate::calls::fresh;
use crate::captures::Tcpdump;
use crate::gate;
use crate::namespaces::Place;
use crate::spans::Span;

/// Agents and tcpdump, observing.
pub struct Views {
    agents: Vec<(String, Agent)>,
    tcpdump: Tcpdump,
    /// Where the last bytes of the capture go.
    listener: TcpListener,
    env: Vec<(&'static str, &'static str)>,
}

/// What was seen in one way.
pub struct View {
    /// The hook family, or `capture`.
    pub name: String,
    /// All spans, of both ends.
    pub spans: Vec<Span>,
    /// What Sonde said.
    pub log: String,
}

impl View {
    /// Processes are known.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.name != CAPTURE
    }
}

const CAPTURE: &str = "capture";

impl Views {
    /// Starts them for these ports.
    ///
    /// # Panics
    /// When one of them does not start.
    #[must_use]
    pub fn start(ports: &[u16], env: &[(&'static str, &'static str)]) -> Self {
        let families = gate::hook_families().into_iter().filter(|family| family != CAPTURE);
        let agents = families.map(|family| {
            let run = env.iter().fold(Run::ports(ports), |run, (name, value)| run.env(name, value));
            let agent = run.hooks(&family).start();
            (family, agent)
        });
        let agents = agents.collect();
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let own = listener.local_addr().expect("an address").port();
        let filter: Vec<String> = ports.iter().chain([&own]).map(|port| format!("tcp port {port}")).collect();
        let tcpdump = Tcpdump::start(&Place::default(), "lo", &[], &filter.join(" or "));
        Self { agents, tcpdump, listener, env: env.to_vec() }
    }

    /// Ends them.
    ///
    /// # Panics
    /// When one of them fails.
    #[must_use]
    pub fn finish(self) -> Vec<View> {
        let Self { agents, tcpdump, listener, env } = self;
        let mut views: Vec<View> = agents
            .into_iter()
            .map(|(name, agent)| {
                let finished = agent.finish();
                View { name, spans: finished.spans, log: finished.log }
            })
            .collect();
        let last = fresh("last");
        let own = listener.local_addr().expect("an address");
        let mut stream = TcpStream::connect(own).expect("a listener");
        stream.write_all(last.as_bytes()).expect("written");
        let capture = tcpdump.finish(&last, 1);
        let (spans, log) = capture.replay_with(&capture.file, "both", &env);
        views.push(View { name: CAPTURE.into(), spans, log });
        views
    }
}
