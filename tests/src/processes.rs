//! Child processes in groups of their own, ended by id when dropped.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};

/// How long anything that should happen may take on a busy machine before it counts as not happening.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// A child process with its own process group; the group is killed when this is dropped.
pub struct Process {
    child: Child,
    status: Option<ExitStatus>,
    /// What to call it in messages.
    pub name: String,
    lines: Option<Receiver<String>>,
    log: Option<JoinHandle<String>>,
}

impl Process {
    /// Starts it. Standard error is kept for messages; standard output is dropped.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(name: &str, command: &mut Command) -> Self {
        Self::start_into(name, command, Stdio::null())
    }

    /// The same with its standard output somewhere.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start_into(name: &str, command: &mut Command, stdout: Stdio) -> Self {
        command.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name}: {command:?}: {error}"));
        let (sender, lines) = channel();
        let stderr = child.stderr.take().expect("piped");
        let log = thread::spawn(move || follow(stderr, &mut |line| drop(sender.send(line))));
        Self { child, status: None, name: name.into(), lines: Some(lines), log: Some(log) }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All processes of its group now.
    #[must_use]
    pub fn group(&self) -> Vec<u32> {
        let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
        processes
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|&pid| group_of(pid) == Some(self.pid()))
            .collect()
    }

    /// Its group once it has so many processes: a server listens before its workers are there.
    ///
    /// # Panics
    /// When they are not there in time.
    #[must_use]
    pub fn group_of(&self, least: usize) -> Vec<u32> {
        let patience = Instant::now() + PATIENCE;
        loop {
            let group = self.group();
            if group.len() >= least {
                return group;
            }
            assert!(Instant::now() < patience, "{} of {least} processes are there", group.len());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until it prints a line that contains `what` to standard error. Returns the lines before it.
    ///
    /// # Panics
    /// When it ends or [`PATIENCE`] does before that.
    pub fn wait_line(&mut self, what: &str) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.as_ref().expect("lines are read until the end").recv_timeout(left) {
                Ok(line) if line.contains(what) => return seen,
                Ok(line) => seen.push(line),
                Err(RecvTimeoutError::Timeout) => {
                    panic!("{}: no line with {what:?} in time: {seen:#?}", self.name)
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("{} ended before printing {what:?}: {seen:#?}", self.name)
                }
            }
        }
    }

    /// How many lines with `what` it has printed to standard error since it was last asked for any.
    pub fn lines_so_far(&mut self, what: &str) -> usize {
        let lines = self.lines.as_ref().expect("lines are read until the end");
        lines.try_iter().filter(|line| line.contains(what)).count()
    }

    /// Waits until one of its network namespace's sockets listens on this port. Read from /proc, so that no connection
    /// is made that a scenario would have to explain.
    pub fn wait_port(&mut self, port: u16) {
        let listens = format!(":{port:04X}");
        self.wait_table(&format!("port {port}"), &["tcp", "tcp6"], |fields| {
            fields.get(1).is_some_and(|local| local.ends_with(&listens)) && fields.get(3) == Some(&"0A")
        });
    }

    /// Waits until a socket listens on this path.
    pub fn wait_unix(&mut self, path: &Path) {
        let path = path.to_str().expect("paths of tests are text");
        // Flags 0x10000: it listens.
        self.wait_table(path, &["unix"], |fields| {
            fields.get(3) == Some(&"00010000") && fields.last() == Some(&path)
        });
    }

    /// Polls: a listening socket gives no event to outsiders.
    fn wait_table(&mut self, what: &str, tables: &[&str], listens: impl Fn(&[&str]) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let pid = self.pid();
        let has = |table: &&str| {
            let text = std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
            text.lines().any(|line| listens(&line.split_whitespace().collect::<Vec<_>>()))
        };
        while !tables.iter().any(&has) {
            if !self.is_alive() {
                let (status, log) = self.reap();
                panic!("{} ended ({status}) before it listened: {log}", self.name);
            }
            assert!(Instant::now() < deadline, "{} does not listen on {what}", self.name);
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        let ended = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        self.status.is_none()
            && waitid(WaitId::Pid(Pid::from_child(&self.child)), ended).is_ok_and(|it| it.is_none())
    }

    /// Sends a signal to the process alone.
    pub fn signal(&self, signal: Signal) {
        // The id cannot have been given to another: the child has not been waited for.
        if self.status.is_none() {
            kill_process(Pid::from_child(&self.child), signal).ok();
        }
    }

    /// Asks it to end with SIGTERM and waits. Gives its status and all of its standard error.
    pub fn terminate(mut self) -> (ExitStatus, String) {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Waits for its end. Gives its status and all of its standard error.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn wait(&mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + PATIENCE;
        while self.is_alive() {
            if Instant::now() > deadline {
                let (_, log) = self.reap();
                panic!("{} did not end in time: {log}", self.name);
            }
            thread::sleep(Duration::from_millis(5));
        }
        self.reap()
    }

    /// Resident memory of its own in bytes; 0 once it has ended. Pages of files do not count: Sonde lets its code go when it
    /// has started, and what comes back of that says nothing of what it holds.
    #[must_use]
    pub fn resident(&self) -> u64 {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.pid())).unwrap_or_default();
        let mut pages = statm.split(' ').skip(1).map(|pages| pages.parse::<u64>().unwrap_or(0));
        let (resident, of_files) = (pages.next().unwrap_or(0), pages.next().unwrap_or(0));
        resident.saturating_sub(of_files) * 4096
    }

    /// Ends what is left of its group, which may hold the pipe open, and waits. The group goes first: once its leader has
    /// been waited for, another may get the id.
    fn reap(&mut self) -> (ExitStatus, String) {
        if self.status.is_none() {
            kill_process_group(Pid::from_child(&self.child), Signal::KILL).ok();
        }
        let status = self.child.wait().expect("wait");
        self.status = Some(status);
        (status, self.log.take().map(|log| log.join().expect("reader of standard error")).unwrap_or_default())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.status.is_none() {
            drop(self.reap());
        }
    }
}

fn follow(stderr: ChildStderr, line: &mut dyn FnMut(String)) -> String {
    let mut all = String::new();
    let mut reader = BufReader::new(stderr);
    let mut bytes = Vec::new();
    while reader.read_until(b'\n', &mut bytes).is_ok_and(|n| n > 0) {
        let text = String::from_utf8_lossy(&bytes);
        line(text.trim_end().to_owned());
        all.push_str(&text);
        bytes.clear();
    }
    all
}

fn group_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may contain anything: state, parent and group follow its last parenthesis.
    stat.rsplit_once(')')?.1.split_whitespace().nth(2)?.parse().ok()
}

/// Runs a command to its end, with `input` on its standard input, and gives its standard output.
///
/// # Panics
/// When it fails, or does not end in time.
pub fn output(name: &str, command: &mut Command, input: &str) -> String {
    let (status, out, err) = run(name, command, input);
    assert!(status.success(), "{name}: {command:?}: {status}\n{err}");
    out
}

/// Runs a command to its end and gives its status, standard output and standard error.
///
/// # Panics
/// When it does not start, or does not end in time.
pub fn run(name: &str, command: &mut Command, input: &str) -> (ExitStatus, String, String) {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{name}: {command:?}: {error}"));
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_owned();
    // A command may end without reading all of its input; that is its own affair.
    thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let out = collect(child.stdout.take().expect("piped"));
    let err = collect(child.stderr.take().expect("piped"));
    let deadline = Instant::now() + 2 * PATIENCE;
    let status = loop {
        match child.try_wait().unwrap_or_else(|error| panic!("{name}: {error}")) {
            Some(status) => break status,
            None if Instant::now() > deadline => {
                drop(child.kill());
                panic!("{name} does not end: {command:?}");
            }
            None => thread::sleep(Duration::from_millis(2)),
        }
    };
    (status, out.join().expect("reader"), err.join().expect("reader"))
}

fn collect(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        drop(pipe.read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// A port that was free a moment ago on the loopback address, each one given once: outside the range of ports that
/// outgoing connections take, so that none of those can be in its way.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn free_port() -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let spread = (std::process::id() % 90) as u16 * 100;
    for _ in 0..1000 {
        let port = 21_000 + (spread + NEXT.fetch_add(1, Ordering::Relaxed)) % 9_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port")
}
