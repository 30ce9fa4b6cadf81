//! A client that writes bytes as a scenario wants them written: the shapes that no well-behaved client makes.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::calls::Call;
use crate::processes::PATIENCE;

/// A connection to a server.
pub struct Connection {
    stream: TcpStream,
    /// Bytes read and not yet consumed.
    ahead: Vec<u8>,
}

/// The final response to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Final status.
    pub status: u16,
    /// Bytes of the body without its framing.
    pub body: u64,
    /// The server said that it closes.
    pub closes: bool,
}

/// Nanoseconds since the epoch.
#[must_use]
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

impl Connection {
    /// Connects to a port of the loopback address.
    ///
    /// # Panics
    /// When refused.
    #[must_use]
    pub fn to(port: u16) -> Self {
        let stream =
            TcpStream::connect(("127.0.0.1", port)).unwrap_or_else(|error| panic!("port {port}: {error}"));
        stream.set_read_timeout(Some(PATIENCE)).expect("time limit");
        stream.set_write_timeout(Some(PATIENCE)).expect("time limit");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        Self { stream, ahead: Vec::new() }
    }

    /// Takes over a connected socket.
    #[must_use]
    pub fn over(stream: TcpStream) -> Self {
        Self { stream, ahead: Vec::new() }
    }

    /// The same connection, for another thread.
    ///
    /// # Panics
    /// When there are no descriptors left.
    #[must_use]
    pub fn clone_of(&self) -> Self {
        Self::over(self.stream.try_clone().expect("a descriptor"))
    }

    /// Its own port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.stream.local_addr().map_or(0, |address| address.port())
    }

    /// The head of a request for this server; a body's length is stated where there is a body.
    #[must_use]
    pub fn head(&self, method: &str, path: &str, headers: &str, body: usize) -> String {
        let host = self.stream.peer_addr().map_or_else(|_| "gone".into(), |address| address.to_string());
        let length = if body > 0 { format!("Content-Length: {body}\r\n") } else { String::new() };
        format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{headers}{length}\r\n")
    }

    /// Writes all of it by as few calls as the kernel allows.
    ///
    /// # Errors
    /// When the other end is gone.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Writes each byte by a call of its own.
    ///
    /// # Errors
    /// When the other end is gone.
    pub fn write_bytewise(&mut self, bytes: &[u8]) -> io::Result<()> {
        bytes.chunks(1).try_for_each(|byte| self.stream.write_all(byte))
    }

    /// Says that nothing more will be written.
    pub fn finish_writing(&self) {
        drop(self.stream.shutdown(Shutdown::Write));
    }

    /// Closes so that the other end sees a reset: bytes that it sent are thrown away unread.
    pub fn abort(self) {
        let linger = rustix::net::sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO));
        linger.expect("SO_LINGER");
    }

    /// Waits until there are bytes to read, and leaves them there.
    ///
    /// # Errors
    /// When the connection breaks off before.
    pub fn wait_for_bytes(&self) -> io::Result<()> {
        self.stream.peek(&mut [0]).map(drop)
    }

    /// Reads until so many bytes wait to be consumed, by as few calls as the kernel allows and none beyond them.
    ///
    /// # Errors
    /// When the connection breaks off before.
    pub fn read_ahead(&mut self, bytes: usize) -> io::Result<()> {
        while self.ahead.len() < bytes {
            self.more(bytes - self.ahead.len())?;
        }
        Ok(())
    }

    /// Reads one response to a request of this method, `piece` bytes at most by each call.
    ///
    /// # Errors
    /// When the connection breaks off within it.
    pub fn read_answer(&mut self, method: &str, piece: usize) -> io::Result<Answer> {
        loop {
            let head = self.read_head(piece)?;
            let answer = self.read_body(&head, method, piece)?;
            if answer.status >= 200 || answer.status == 101 {
                return Ok(answer);
            }
        }
    }

    /// Reads until what came since the last such call is enough, and gives it.
    ///
    /// # Panics
    /// When the connection ends before that.
    pub fn read_until(&mut self, is_enough: impl Fn(&str) -> bool) -> String {
        loop {
            let text = String::from_utf8_lossy(&self.ahead).into_owned();
            if is_enough(&text) {
                self.ahead.clear();
                return text;
            }
            self.more(65_536).unwrap_or_else(|error| panic!("{error} after {text:?}"));
        }
    }

    /// Sends a request with this head and body, reads the response, and says what happened.
    ///
    /// # Panics
    /// When the connection breaks off.
    pub fn exchange(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> Call {
        let start = now();
        let head = self.head(method, path, headers, body.len());
        self.write(head.as_bytes()).expect("the server reads the head");
        if !body.is_empty() {
            self.write(body).expect("the server reads the body");
        }
        let answer =
            self.read_answer(method, 65_536).unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        told(method, path, body.len() as u64, answer, start)
    }

    /// Reads one request's head and its body of stated length, and gives the head.
    ///
    /// # Errors
    /// When the connection breaks off within it.
    pub fn read_request(&mut self) -> io::Result<String> {
        let head = self.read_head(65_536)?;
        let mut fields = head.lines().filter_map(|line| line.split_once(':'));
        let length = fields.find(|(key, _)| key.eq_ignore_ascii_case("content-length"));
        let length = length.map_or(Ok(0), |(_, value)| value.trim().parse()).map_err(io::Error::other)?;
        self.skip(length, 1 << 20)?;
        Ok(head)
    }

    /// Reads the head of a request alone.
    ///
    /// # Errors
    /// When the connection breaks off within it.
    pub fn read_request_head(&mut self) -> io::Result<String> {
        self.read_head(65_536)
    }

    /// Reads so many bytes.
    ///
    /// # Errors
    /// When the connection breaks off before.
    pub fn skip_request(&mut self, bytes: usize) -> io::Result<()> {
        self.skip(bytes as u64, 65_536)
    }

    /// Reads until the other end has finished, and gives the number of bytes.
    ///
    /// # Errors
    /// When the connection is reset.
    pub fn read_rest(&mut self) -> io::Result<u64> {
        self.skip_to_end(65_536)
    }

    fn read_head(&mut self, piece: usize) -> io::Result<String> {
        loop {
            if let Some(end) = self.ahead.windows(4).position(|window| window == b"\r\n\r\n") {
                let rest = self.ahead.split_off(end + 4);
                let head = std::mem::replace(&mut self.ahead, rest);
                return Ok(String::from_utf8_lossy(&head).into_owned());
            }
            self.more(piece)?;
        }
    }

    fn read_body(&mut self, head: &str, method: &str, piece: usize) -> io::Result<Answer> {
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let field = |name: &str| {
            head.lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(key, _)| key.eq_ignore_ascii_case(name))
        };
        let closes = field("connection").is_some_and(|(_, value)| value.trim().eq_ignore_ascii_case("close"))
            || head.starts_with("HTTP/1.0");
        let body = if method == "HEAD" || status < 200 || status == 204 || status == 304 {
            0
        } else if field("transfer-encoding").is_some() {
            self.skip_chunked(piece)?
        } else if let Some((_, length)) = field("content-length") {
            let length = length.trim().parse().map_err(io::Error::other)?;
            self.skip(length, piece)?;
            length
        } else {
            self.skip_to_end(piece)?
        };
        Ok(Answer { status, body, closes })
    }

    fn skip_chunked(&mut self, piece: usize) -> io::Result<u64> {
        let mut body = 0;
        loop {
            let line = self.read_line(piece)?;
            let size = line.split(';').next().unwrap_or(&line).trim();
            let size = u64::from_str_radix(size, 16).map_err(io::Error::other)?;
            if size == 0 {
                while !self.read_line(piece)?.trim().is_empty() {}
                return Ok(body);
            }
            self.skip(size + 2, piece)?;
            body += size;
        }
    }

    fn read_line(&mut self, piece: usize) -> io::Result<String> {
        loop {
            if let Some(end) = self.ahead.iter().position(|&byte| byte == b'\n') {
                let rest = self.ahead.split_off(end + 1);
                let line = std::mem::replace(&mut self.ahead, rest);
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            self.more(piece)?;
        }
    }

    fn skip(&mut self, mut left: u64, piece: usize) -> io::Result<()> {
        while left > 0 {
            if self.ahead.is_empty() {
                self.more(piece)?;
            }
            let now = left.min(self.ahead.len() as u64);
            self.ahead.drain(..now as usize);
            left -= now;
        }
        Ok(())
    }

    fn skip_to_end(&mut self, piece: usize) -> io::Result<u64> {
        let mut body = 0;
        loop {
            body += self.ahead.len() as u64;
            self.ahead.clear();
            match self.more(piece) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(body),
                other => other?,
            }
        }
    }

    fn more(&mut self, piece: usize) -> io::Result<()> {
        let mut bytes = vec![0; piece];
        let read = self.stream.read(&mut bytes)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.ahead.extend_from_slice(&bytes[..read]);
        Ok(())
    }
}

/// The call that ended with this answer now.
#[must_use]
pub fn told(method: &str, path: &str, sent: u64, answer: Answer, start: u64) -> Call {
    Call {
        method: method.into(),
        path: path.into(),
        status: answer.status,
        sent,
        received: answer.body,
        start,
        end: now(),
        pid: std::process::id(),
    }
}

/// A listener on a free port of the loopback address, for a scenario's own server.
///
/// # Panics
/// When there is no port.
#[must_use]
pub fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    (listener, port)
}

/// Serves the connections that arrive, one after the other, each by the next handler.
pub fn serve(listener: TcpListener, handlers: Vec<Box<dyn FnOnce(Connection) + Send>>) -> JoinHandle<()> {
    thread::spawn(move || {
        for handler in handlers {
            let (stream, _) = listener.accept().expect("a connection");
            stream.set_nodelay(true).expect("TCP_NODELAY");
            stream.set_read_timeout(Some(PATIENCE)).expect("time limit");
            handler(Connection { stream, ahead: Vec::new() });
        }
    })
}

/// Bytes that look random and are the same in each run.
#[must_use]
pub fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(step).take(count).collect()
}
