//! What rides on HTTP/1: WebSocket sessions, event streams, gRPC-Web. Real servers and clients, and what these say they did.

use std::process::Command;

use serde::Deserialize;
use serde_json::json;

use crate::apps;
use crate::processes::{Process, free_port, output};

/// A server.
pub struct Server {
    /// Its processes.
    pub process: Process,
    /// Its port.
    pub port: u16,
    /// What its paths of WebSocket sessions begin with.
    pub prefix: &'static str,
}

fn start(name: &str, command: &mut Command, port: u16, prefix: &'static str) -> Server {
    let mut process = Process::start(name, command);
    process.wait_port(port);
    Server { process, port, prefix }
}

/// `websockets` of Python.
#[must_use]
pub fn websockets() -> Server {
    let port = free_port();
    let mut command = Command::new(apps::rides_python());
    command.arg(apps::sources().join("python/rides/ws_server.py")).arg(port.to_string());
    start("websockets", &mut command, port, "/ws/")
}

/// Starlette under uvicorn: sessions, event streams, long polling.
#[must_use]
pub fn uvicorn() -> Server {
    let port = free_port();
    let mut command = Command::new(apps::rides_python());
    command.args(["-m", "uvicorn", "--ws", "websockets", "--ws-ping-interval", "600", "--no-access-log"]);
    command.args(["--ws-per-message-deflate", "true", "--ws-max-size", "100000000", "--backlog", "16384"]);
    command.args(["--port", &port.to_string(), "asgi:app"]).current_dir(apps::sources().join("python/rides"));
    start("uvicorn", &mut command, port, "/ws/")
}

/// Flask under gunicorn with threads: event streams, long polling.
#[must_use]
pub fn flask() -> Server {
    let port = free_port();
    let mut command = Command::new(apps::rides_python());
    command.args(["-m", "gunicorn", "--no-control-socket", "-k", "gthread", "--threads", "64"]);
    command.args(["--bind", &format!("127.0.0.1:{port}"), "flask_events:app"]);
    command.current_dir(apps::sources().join("python/rides"));
    start("flask", &mut command, port, "")
}

/// `ws` and `node:http`.
#[must_use]
pub fn node() -> Server {
    let port = free_port();
    let mut command = Command::new("node");
    command.arg(apps::rides_node().join("server.mjs")).arg(port.to_string());
    start("node", &mut command, port, "/ws/")
}

/// Go: `gorilla` or `coder`, and `net/http` for streams.
#[must_use]
pub fn go(library: &str) -> Server {
    let port = free_port();
    let mut command = Command::new(apps::rides_go().join("ws"));
    command.args(["server", &port.to_string()]);
    let prefix = if library == "coder" { "/coder/" } else { "/gorilla/" };
    start(&format!("go {library}"), &mut command, port, prefix)
}

/// gRPC's health service behind improbable-eng/grpc-web.
#[must_use]
pub fn grpc_web() -> Server {
    let port = free_port();
    let mut command = Command::new(apps::rides_go().join("web"));
    command.arg(port.to_string());
    start("grpc-web", &mut command, port, "")
}

/// Who makes sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// `websockets` of Python.
    Python,
    /// `ws`.
    Node,
    /// gorilla/websocket.
    Go,
}

impl Client {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Python, Self::Node, Self::Go];

    /// Runs sessions one after the other and tells of each. `compressed`: messages are, where the server agrees.
    ///
    /// # Panics
    /// Where the client fails, or does not tell of each.
    #[must_use]
    pub fn run(self, port: u16, compressed: bool, sessions: &[Planned]) -> Vec<Told> {
        let mut command = match self {
            Self::Python => Command::new(apps::rides_python()),
            Self::Node => Command::new("node"),
            Self::Go => Command::new(apps::rides_go().join("ws")),
        };
        match self {
            Self::Python => command.arg(apps::sources().join("python/rides/ws_client.py")),
            Self::Node => command.arg(apps::rides_node().join("ws_client.mjs")),
            Self::Go => command.arg("client"),
        };
        command.arg(format!("ws://127.0.0.1:{port}")).arg(if compressed { "deflate" } else { "none" });
        let plan = sessions.iter().map(Planned::json).collect::<Vec<_>>();
        let lines = output(&format!("{self:?}"), &mut command, &json!(plan).to_string());
        let told: Vec<Told> = lines.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
        assert_eq!(told.len(), sessions.len(), "{self:?} did not tell of every session");
        told
    }
}

/// What is done in a session.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    /// A message of so many bytes is sent, and comes back.
    Echo(usize),
    /// The server sends so many messages of so many bytes.
    Push(usize, usize),
}

/// How a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// The client closes it with this code.
    Client(u16),
    /// The server does.
    Server(u16),
    /// The client closes the connection without a word.
    Drop,
    /// The client resets it.
    Reset,
}

/// A session to have.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Its path, which no other has.
    pub path: String,
    /// What is done in it.
    pub ops: Vec<Op>,
    /// How it ends.
    pub close: Close,
}

impl Planned {
    fn json(&self) -> serde_json::Value {
        let op = |op: &Op| match *op {
            Op::Echo(size) => json!(["echo", size]),
            Op::Push(count, size) => json!(["push", count, size]),
        };
        let close = match self.close {
            Close::Client(code) => json!(["client", code]),
            Close::Server(code) => json!(["server", code]),
            Close::Drop => json!(["drop", 0]),
            Close::Reset => json!(["reset", 0]),
        };
        json!({ "path": self.path, "ops": self.ops.iter().map(op).collect::<Vec<_>>(), "close": close })
    }
}

/// What a client says of a session.
#[derive(Clone, Debug, Deserialize)]
pub struct Told {
    /// Its path.
    pub path: String,
    /// Bytes of each message that it sent.
    pub sent: Vec<u64>,
    /// The same of what it received.
    pub received: Vec<u64>,
    /// The code that it was closed with, where it was.
    pub code: Option<u16>,
}

impl Told {
    /// Bytes on the connection each way, where no message is compressed or in several frames: RFC 6455, section 5.2.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        let frame = |size: &u64| 2 + size + if *size > 65_535 { 8 } else { u64::from(*size > 125) * 2 };
        let close = if self.code.is_some() { 4 } else { 0 };
        let sent = self.sent.iter().map(|size| frame(size) + 4).sum::<u64>();
        let received = self.received.iter().map(frame).sum::<u64>();
        (sent + if close > 0 { close + 4 } else { 0 }, received + close)
    }
}

/// What a call of gRPC-Web came to.
#[derive(Clone, Debug, Deserialize)]
pub struct WebCall {
    /// Its method, without the service.
    pub method: String,
    /// Its status, `None` where the client gave it up.
    pub code: Option<u16>,
    /// Messages that came.
    pub messages: u64,
}

/// Calls gRPC's health service by Google's client of gRPC-Web, one call after the other: method, and service asked for.
///
/// # Panics
/// Where the client fails, or does not tell of each.
#[must_use]
pub fn web_calls(port: u16, format: &str, calls: &[(&str, &str)]) -> Vec<WebCall> {
    let mut command = Command::new("node");
    command.arg(apps::rides_node().join("web_client.mjs"));
    command.arg(format!("http://127.0.0.1:{port}")).arg(format);
    let call = |&(method, service): &(&str, &str)| json!({ "method": method, "service": service });
    let plan = json!(calls.iter().map(call).collect::<Vec<_>>());
    let lines = output("grpc-web", &mut command, &plan.to_string());
    let told: Vec<WebCall> = lines.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert_eq!(told.len(), calls.len(), "grpc-web did not tell of every call");
    told
}
