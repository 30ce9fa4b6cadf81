//! A client that is told what to call while it runs.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use crate::processes::PATIENCE;

use super::programs::{Library, read};
use super::{Call, Planned};

/// A client of a library, running. Killed when dropped.
pub struct Session {
    child: Child,
    stdin: Option<ChildStdin>,
    told: Receiver<String>,
    library: Library,
}

impl Session {
    /// Starts it; the arguments are those of [`Library::client`].
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(library: Library, port: u16, concurrency: usize, channels: usize) -> Self {
        let mut child = library.client(port, concurrency, channels).spawn().expect("a client");
        let stdin = child.stdin.take();
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, told) = channel();
        thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, stdin, told, library }
    }

    /// Calls.
    ///
    /// # Panics
    /// When the client does not listen any more.
    pub fn make(&mut self, plan: &[Planned]) {
        let lines: String = plan.iter().map(Planned::line).collect();
        let stdin = self.stdin.as_mut().expect("not finished");
        stdin.write_all(lines.as_bytes()).unwrap_or_else(|error| panic!("{:?}: {error}", self.library));
    }

    /// The next call that is over.
    ///
    /// # Panics
    /// When there is none in time.
    pub fn ended(&mut self) -> Call {
        let line = self.told.recv_timeout(PATIENCE);
        let line = line.unwrap_or_else(|error| panic!("{:?} client: no call ended: {error}", self.library));
        read(&line).pop().expect("a line")
    }

    /// Lets it make what it was told, and gives the calls that were not asked for yet.
    ///
    /// # Panics
    /// When it fails.
    #[must_use]
    pub fn finish(mut self) -> Vec<Call> {
        drop(self.stdin.take());
        let calls = self.told.iter().flat_map(|line| read(&line)).collect();
        let status = self.child.wait().expect("wait");
        assert!(status.success(), "{:?} client: {status}", self.library);
        calls
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // It may have been waited for: then there is nothing left to end.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
