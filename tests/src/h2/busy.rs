//! A client that keeps connections busy until it is told to end, and tells each exchange: no other one has a body of its size.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use super::clients::Client;
use crate::calls::Call;
use crate::processes::PATIENCE;

/// It, calling. Killed when dropped.
pub struct Busy {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Call>,
    told: Vec<Call>,
}

impl Busy {
    /// Begins: so many connections, each with so many streams at a time, each of which pauses behind each exchange.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(client: Client, base: &str, connections: usize, streams: usize, pause_ms: u32) -> Self {
        let mut command = client.command("busy");
        command.args([base, &connections.to_string(), &streams.to_string(), &pause_ms.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let told = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
                drop(sender.send(told));
            }
        });
        Self { child, stdin, lines, told: Vec::new() }
    }

    /// Waits until so many more exchanges are over.
    ///
    /// # Panics
    /// When they do not come.
    pub fn wait(&mut self, more: usize) {
        for _ in 0..more {
            self.told.push(self.lines.recv_timeout(PATIENCE).expect("the client goes on"));
        }
    }

    /// Ends it and gives every exchange.
    ///
    /// # Panics
    /// When it does not end well.
    #[must_use]
    pub fn finish(mut self) -> Vec<Call> {
        drop(self.stdin.take());
        while let Ok(told) = self.lines.recv_timeout(PATIENCE) {
            self.told.push(told);
        }
        let status = self.child.wait().expect("wait");
        assert!(status.success(), "the busy client ended with {status}");
        std::mem::take(&mut self.told)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
