//! The connections of this node, each with its two streams and its parser: records in, exchanges out.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use sonde_abi::{ChunkHeader, LifeEvent, LifeHeader, Record, record::flags};

use super::forgotten::Forgotten;
use super::parting::Parting;
use super::recency::Recency;
use super::{Begins, Bounds, ConnKey, Direction, Ends, Identity, Nanos, Reassembly, Segment, Stamp};
use crate::proto::{Capture, Context, Ending, Event, Onset, Parser};
use crate::telemetry::{Counters, Lost};

/// Error numbers of `sk_err` (asm-generic/errno.h). EPIPE is a reset that met a connection closed by the other end.
const EPIPE: u16 = 32;
const ECONNRESET: u16 = 104;
const ETIMEDOUT: u16 = 110;

/// How often idle connections are looked for.
const SWEEP: Nanos = 1_000_000_000;

/// Bytes of a head that are kept while it comes in pieces, where memory for all of them is short.
const SHORT_HEAD: usize = 4096;

/// What [`Connections`] keeps at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections. Past it the least recently used one is forgotten, and joined anew if it moves again.
    pub connections: usize,
    /// What waits for a hole to be filled.
    pub reassembly: Bounds,
    /// Bytes of a head.
    pub head: usize,
    /// Bytes of heads and of waiting chunks on all connections together. Past it nothing waits for a hole, and heads
    /// that come in pieces are cut.
    pub buffered: usize,
    /// A connection on which nothing is open is forgotten after so long without a byte.
    pub idle: Nanos,
    /// A connection that only awaits its end: nobody tells the end of a unix socket.
    pub closing: Nanos,
    /// A connection with an exchange open: the exchange then ends with a timeout.
    pub waiting: Nanos,
    /// One that was handed on to WebSocket: the kernel side leaves it alone after a while, and tells its close.
    pub session: Nanos,
}

impl Limits {
    /// For records that come in order as far as they ever will: nothing waits for a hole to be filled.
    #[must_use]
    pub fn in_order() -> Self {
        Self { reassembly: Bounds { chunks: 0, bytes: 0, time: 0 }, ..Self::default() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        const SECOND: Nanos = 1_000_000_000;
        Self {
            connections: 65_536,
            reassembly: Bounds { chunks: 64, bytes: 256 << 10, time: 50_000_000 },
            head: sonde_abi::limits::HEAD_BYTES as usize,
            buffered: 32 << 20,
            idle: 300 * SECOND,
            closing: 10 * SECOND,
            waiting: 3600 * SECOND,
            session: 24 * 3600 * SECOND,
        }
    }
}

/// All connections. The functional core's entry: time comes with the records only.
#[derive(Debug)]
pub struct Connections {
    limits: Limits,
    capture: Arc<Capture>,
    counters: Arc<Counters>,
    /// By address of the `struct sock`.
    by_sock: HashMap<u64, u32, foldhash::fast::RandomState>,
    connections: Recency<Connection>,
    forgotten: Forgotten,
    /// Those with chunks, or an end, that wait.
    waiting: Vec<u32>,
    buffered: usize,
    last_id: u64,
    /// Time of the record or tick being taken.
    now: Nanos,
    next_sweep: Nanos,
}

#[derive(Debug)]
struct Connection {
    identity: Identity,
    /// Where the kernel side said that its chunks begin.
    begins: Option<Begins>,
    /// `None` before the first chunk.
    stream: Option<Stream>,
    last_seen: Nanos,
    buffered: usize,
    /// Is in [`Connections::waiting`].
    listed: bool,
    /// It is over, and stays for a moment, for what is still read of it.
    closed: bool,
    /// Its end was told, and bytes before that are awaited.
    parting: Option<Box<Parting>>,
}

impl Connection {
    /// Where its chunks begin, as the kernel side says before the first of them; where another thread's came before that, it may
    /// have been held.
    fn begin(&mut self, begins: Begins) {
        match &mut self.stream {
            None => self.begins = Some(begins),
            Some(stream) if stream.reassembly.is_untouched() => stream.begin(begins),
            Some(_) => {}
        }
    }

    fn is_session(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| stream.parser.is_session())
    }

    /// Its bytes are another protocol's.
    fn is_left_alone(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| stream.parser.is_ignored())
    }
}

#[derive(Debug)]
struct Stream {
    onset: Onset,
    reassembly: Reassembly,
    parser: Parser,
}

impl Stream {
    fn new(onset: Onset, begins: Option<Begins>) -> Self {
        Self { onset, reassembly: Reassembly::new(begins), parser: Parser::new(onset, begins) }
    }

    /// Nothing of it has been read yet.
    fn begin(&mut self, begins: Begins) {
        self.reassembly.begin(begins);
        self.parser = Parser::new(self.onset, Some(begins));
    }
}

impl Connections {
    /// None yet. Counts the exchanges that end, the connections known, and what is lost.
    #[must_use]
    pub fn new(limits: Limits, counters: Arc<Counters>) -> Self {
        Self {
            limits,
            capture: Arc::default(),
            counters,
            by_sock: HashMap::default(),
            connections: Recency::default(),
            forgotten: Forgotten::default(),
            waiting: Vec::new(),
            buffered: 0,
            last_id: 0,
            now: 0,
            next_sweep: 0,
        }
    }

    /// Says what is kept of heads from here on.
    pub fn set_capture(&mut self, capture: Capture) {
        self.capture = Arc::new(capture);
    }

    /// Takes one record; appends what it says to `events`.
    pub fn record(&mut self, record: &Record<'_>, events: &mut Vec<Event>) {
        let before = events.len();
        match record {
            Record::Chunk(header, bytes) => {
                self.now = header.time_ns;
                for (chunk, bytes) in header.chunks(bytes) {
                    self.chunk(&chunk, bytes, events);
                }
            }
            Record::Life(header, bytes) => {
                self.now = header.time_ns;
                self.life(header, bytes, events);
            }
        }
        self.count(before, events);
    }

    /// Takes the time of the latest records: gives up holes and forgets idle connections.
    pub fn tick(&mut self, now: Nanos, events: &mut Vec<Event>) {
        self.now = now;
        let before = events.len();
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.retain(|&slot| {
            self.drive(slot, events, |stream, bounds, context| {
                let Stream { reassembly, parser, .. } = stream;
                let holes = reassembly.expire(now, bounds, |direction, segment| {
                    parser.segment(segment, direction, context);
                });
                context.counters.lose(Lost::Reassembly, holes);
            });
            let waits = self.waits(slot);
            if let Some(connection) = self.connections.get_mut(slot) {
                connection.listed = waits;
            }
            waits
        });
        self.waiting.append(&mut waiting);
        self.part_late(now, events);
        if now >= self.next_sweep {
            self.next_sweep = now.saturating_add(SWEEP);
            self.sweep(now, events);
        }
        self.count(before, events);
    }

    /// Sonde stops, or a recording is over: every connection is forgotten. Exchanges whose response is complete end (their
    /// request was still being sent, or only a unix socket's close was awaited). Open ones have no `End`: they did not
    /// fail just because nobody looks any more.
    pub fn finish(&mut self, events: &mut Vec<Event>) {
        let before = events.len();
        while let Some(slot) = self.connections.oldest() {
            self.end(slot, Ending::Stopped, events);
        }
        self.count(before, events);
    }

    /// Bytes kept of heads and of chunks that wait, on all connections.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.buffered
    }

    fn chunk(&mut self, header: &ChunkHeader, bytes: &[u8], events: &mut Vec<Event>) {
        // Decoding has checked it.
        let Some(direction) = header.direction() else { return };
        let slot = self.slot(ConnKey::of_chunk(header), events);
        let starved = self.buffered > self.limits.buffered;
        let Some(connection) = self.connections.get_mut(slot) else { return };
        connection.last_seen = connection.last_seen.max(header.time_ns);
        if connection.stream.is_none() {
            connection.identity.set_ends(Ends::of_chunk(header));
            let Connection { identity, begins, .. } = connection;
            // Nothing else tells of unix sockets that were forgotten, and of captures from where on they say all.
            // A connection that is over may be read once more, which moves nothing: no sign of anything before it.
            let told = header.flags & flags::LATE == 0 && !identity.is_unix() && header.length > 0;
            let begins = begins.take().or_else(|| self.forgotten.take(identity.key).filter(|_| told));
            connection.stream = Some(Stream::new(onset(header), begins));
        }
        self.drive(slot, events, |stream, bounds, context| {
            let Stream { reassembly, parser, .. } = stream;
            let mut to = |direction, segment: &Segment<'_>| parser.segment(segment, direction, context);
            let mut holes = reassembly.chunk(header, direction, bytes, bounds, &mut to);
            if starved {
                holes += reassembly.flush(&mut to);
            }
            context.counters.lose(Lost::Reassembly, holes);
        });
        let parting =
            self.connections.get_mut(slot).and_then(|connection| connection.parting.as_deref().copied());
        if let Some(parting) = parting {
            self.part(slot, parting, events);
        }
        self.list(slot);
    }

    /// Has the next tick look at a connection on which something waits.
    fn list(&mut self, slot: u32) {
        if self.waits(slot)
            && let Some(connection) = self.connections.get_mut(slot)
            && !std::mem::replace(&mut connection.listed, true)
        {
            self.waiting.push(slot);
        }
    }

    /// Takes an end that was told: now, or when the bytes before it have come.
    fn part(&mut self, slot: u32, parting: Parting, events: &mut Vec<Event>) {
        let patience = self.limits.reassembly.time;
        let Some(connection) = self.connections.get_mut(slot) else { return };
        connection.parting = None;
        let left_alone = connection.is_left_alone();
        let lacks = connection.stream.as_ref().is_some_and(|stream| parting.lacks(&stream.reassembly));
        let is_late = self.now.saturating_sub(parting.time) > patience || patience == 0;
        if lacks && !is_late && !left_alone {
            connection.parting = Some(Box::new(parting));
            return self.list(slot);
        }
        // What breaks off did so when the end was told.
        let now = std::mem::replace(&mut self.now, parting.time);
        self.give_up(slot, &parting, events);
        if let Some(ending) = parting.ending {
            self.end(slot, ending, events);
        }
        self.now = now;
    }

    /// Takes the ends that have waited for long enough.
    fn part_late(&mut self, now: Nanos, events: &mut Vec<Event>) {
        let patience = self.limits.reassembly.time;
        let Self { waiting, connections, .. } = self;
        let late = |&slot: &u32| {
            let parting =
                connections.get_mut(slot).and_then(|connection| connection.parting.as_deref().copied());
            parting
                .filter(|parting| now.saturating_sub(parting.time) > patience)
                .map(|parting| (slot, parting))
        };
        // Allocates only where some have.
        let late: Vec<_> = waiting.iter().filter_map(late).collect();
        for (slot, parting) in late {
            self.part(slot, parting, events);
        }
    }

    /// Hands out what waits before an end, and steps over what does not come.
    fn give_up(&mut self, slot: u32, parting: &Parting, events: &mut Vec<Event>) {
        self.drive(slot, events, |stream, _, context| {
            let Stream { reassembly, parser, .. } = stream;
            let mut holes =
                reassembly.flush(|direction, segment| parser.segment(segment, direction, context));
            // A session is counted by its positions: that bytes before them were not sent is no loss.
            let is_session = parser.is_session();
            let beyond = parting.reach(reassembly, is_session, |direction, segment| {
                parser.segment(segment, direction, context);
            });
            holes += if is_session { 0 } else { beyond };
            context.counters.lose(Lost::Reassembly, holes);
            if parting.read_all {
                parser.stream_ended(Direction::Read, context);
            }
            if parting.finished {
                parser.stream_ended(Direction::Write, context);
            }
        });
    }

    fn life(&mut self, header: &LifeHeader, bytes: &[u8], events: &mut Vec<Event>) {
        let key = ConnKey::of_life(header);
        match header.event() {
            Some(LifeEvent::Open) => {
                let slot = self.slot(key, events);
                if let Some(connection) = self.connections.get_mut(slot) {
                    let LifeHeader { time_ns: time, tgid, tid, written, read, .. } = *header;
                    connection.last_seen = connection.last_seen.max(time);
                    if tgid != 0 {
                        connection.identity.connect = Some(Stamp { time, arrival: time, tgid, tid });
                    }
                    connection.begin([written, read]);
                }
            }
            Some(LifeEvent::UnixName) => {
                let slot = self.slot(key, events);
                if let Some(connection) = self.connections.get_mut(slot) {
                    connection.last_seen = connection.last_seen.max(header.time_ns);
                    connection.identity.set_path(bytes);
                }
            }
            Some(LifeEvent::Finished) => {
                if let Some(slot) = self.known(key) {
                    self.part(slot, Parting::finished(header), events);
                }
            }
            Some(LifeEvent::Closed) => {
                if let Some(slot) = self.known(key) {
                    let ending = match header.error {
                        EPIPE | ECONNRESET => Ending::Reset,
                        ETIMEDOUT => Ending::Timeout,
                        _ => Ending::Closed,
                    };
                    // What had come before a reset can be read after it, and must not pass for a connection of its own.
                    match self.connections.get_mut(slot) {
                        Some(connection) if connection.is_left_alone() => connection.closed = true,
                        Some(connection) => {
                            let before = connection.parting.as_deref().copied();
                            let parting = Parting::closed(header, ending).after(before);
                            self.part(slot, parting, events);
                        }
                        None => {}
                    }
                } else {
                    self.forgotten.remove(key);
                }
            }
            Some(LifeEvent::Forked) | None => {}
        }
    }

    /// The connection of that name. Another incarnation at its address is over.
    fn slot(&mut self, key: ConnKey, events: &mut Vec<Event>) -> u32 {
        if let Some(&slot) = self.by_sock.get(&key.sock) {
            if self.connections.get_mut(slot).is_some_and(|connection| connection.identity.key == key) {
                self.connections.touch(slot);
                return slot;
            }
            self.end(slot, Ending::Replaced, events);
        }
        if self.connections.len() >= self.limits.connections
            && let Some(oldest) = self.connections.oldest()
        {
            self.counters.lose(Lost::ConnectionsFull, 1);
            self.forget(oldest, Ending::Evicted, events);
        }
        let slot = self.connections.insert(Connection {
            identity: Identity::new(key, Ends::unknown()),
            begins: None,
            stream: None,
            last_seen: 0,
            buffered: 0,
            listed: false,
            closed: false,
            parting: None,
        });
        self.by_sock.insert(key.sock, slot);
        self.counters.connections.store(self.connections.len() as u64, Ordering::Relaxed);
        slot
    }

    fn known(&mut self, key: ConnKey) -> Option<u32> {
        let slot = *self.by_sock.get(&key.sock)?;
        (self.connections.get_mut(slot)?.identity.key == key).then_some(slot)
    }

    fn waits(&mut self, slot: u32) -> bool {
        let Some(connection) = self.connections.get_mut(slot) else { return false };
        let held = connection.stream.as_ref().is_some_and(|stream| stream.reassembly.waits());
        held || connection.parting.is_some()
    }

    /// Runs a connection's parser. A panic costs that connection its exchanges, and nothing else.
    fn drive(
        &mut self,
        slot: u32,
        events: &mut Vec<Event>,
        run: impl FnOnce(&mut Stream, &Bounds, &mut Context<'_>),
    ) {
        let Self { limits, counters, capture, connections, buffered, last_id, now, .. } = self;
        let time = *now;
        let Some(connection) = connections.get_mut(slot) else { return };
        let Connection { identity, stream: Some(stream), buffered: own, .. } = connection else { return };
        let head_bytes = if *buffered > limits.buffered { SHORT_HEAD } else { limits.head };
        let mut context =
            Context { identity, ids: last_id, counters, events, head_bytes, capture, now: time };
        let ran = catch_unwind(AssertUnwindSafe(|| run(stream, &limits.reassembly, &mut context)));
        if ran.is_err() {
            counters.lose(Lost::ParserPanic, 1);
            *stream = Stream { parser: Parser::Ignored, ..Stream::new(Onset::Joined, None) };
        }
        let now = stream.reassembly.buffered() + stream.parser.buffered();
        *buffered = buffered.saturating_sub(*own) + now;
        *own = now;
    }

    /// Forgets a connection that may live on.
    fn forget(&mut self, slot: u32, ending: Ending, events: &mut Vec<Event>) {
        let Some(Connection { identity, begins, stream, closed, .. }) = self.end(slot, ending, events) else {
            return;
        };
        let reached = stream.and_then(|stream| stream.reassembly.reached()).or(begins);
        if let Some(reached) = reached.filter(|_| !closed && !identity.is_unix()) {
            self.forgotten.add(identity.key, reached);
        }
    }

    fn end(&mut self, slot: u32, ending: Ending, events: &mut Vec<Event>) -> Option<Connection> {
        // An end that was told before is the end.
        let parting = self.connections.get_mut(slot).and_then(|connection| connection.parting.take());
        if let Some(parting) = &parting {
            self.give_up(slot, parting, events);
        }
        let ending = parting.and_then(|parting| parting.ending).unwrap_or(ending);
        self.drive(slot, events, |stream, _, context| {
            let Stream { reassembly, parser, .. } = stream;
            let holes = reassembly.flush(|direction, segment| parser.segment(segment, direction, context));
            context.counters.lose(Lost::Reassembly, holes);
            parser.closed(ending, context);
        });
        let connection = self.connections.remove(slot)?;
        self.buffered = self.buffered.saturating_sub(connection.buffered);
        self.by_sock.remove(&connection.identity.key.sock);
        if connection.listed {
            self.waiting.retain(|&waiting| waiting != slot);
        }
        self.counters.connections.store(self.connections.len() as u64, Ordering::Relaxed);
        Some(connection)
    }

    /// Forgets connections that were idle for too long.
    fn sweep(&mut self, now: Nanos, events: &mut Vec<Event>) {
        let Limits { idle, closing, waiting, session, .. } = self.limits;
        let shortest = idle.min(closing).min(waiting).min(session);
        let mut next = self.connections.oldest();
        while let Some(slot) = next {
            next = self.connections.newer(slot);
            let Some(connection) = self.connections.get_mut(slot) else { return };
            let silent = now.saturating_sub(connection.last_seen);
            if silent <= shortest {
                // Those behind it were used later.
                return;
            }
            let bound = match &connection.stream {
                _ if connection.closed => closing,
                None => idle,
                Some(stream) if stream.parser.is_idle() => idle,
                Some(stream) if stream.parser.awaits_close() && connection.identity.is_unix() => closing,
                Some(stream) if stream.parser.is_session() => session,
                Some(_) => waiting,
            };
            if silent > bound {
                let is_session = connection.is_session();
                // Of a session nobody knows that it is over.
                self.forget(slot, if is_session { Ending::Evicted } else { Ending::Timeout }, events);
            }
        }
    }

    fn count(&self, before: usize, events: &[Event]) {
        let new = events.get(before..).unwrap_or_default();
        let ended = new.iter().filter(|event| matches!(event, Event::End(_))).count();
        if ended > 0 {
            Counters::add(&self.counters.exchanges, ended as u64);
        }
    }
}

/// What of the connection was seen first, by its first chunk. The end that called connect counts its SYN among what it
/// wrote; who did is known where the kernel side saw it open.
fn onset(header: &ChunkHeader) -> Onset {
    let syn = u64::from(header.direction() == Some(Direction::Write));
    let first = header.position <= syn && header.flags & flags::LATE == 0;
    match (header.flags & flags::POSITION != 0, header.role()) {
        (true, _) if first => Onset::FirstByte,
        (false, Some(_)) => Onset::FirstByte,
        (true, Some(_)) => Onset::Opening,
        (_, None) => Onset::Joined,
    }
}
