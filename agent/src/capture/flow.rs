//! One TCP connection: its segments put into the order in which its two ends can have sent and read them.
//!
//! A segment waits where bytes before it are missing, and where it acknowledges bytes that have not been seen: its sender
//! had them, so the answer would overtake its question. What is missing is given up
//! - [`GRACE`] after it was missed where the other end has it (it was acknowledged): the capture lost it;
//! - at the bounds on time, pieces and bytes of [`Limits`] where it was not acknowledged: it is likely to be sent again;
//! - when the connection is reset or forgotten, and at the end of the capture.

use super::flows::Limits;
use super::half::{Half, Piece};
use super::segment::{Endpoint, TcpSegment};
use crate::conn::{Direction, Nanos};

/// How long what was acknowledged and not seen may still turn up: captures are not always in order.
const GRACE: Nanos = 50_000_000;

/// Position of the first byte that was seen of a connection that had begun before: room for what comes late.
const JOINED: u64 = 1 << 32;

/// One connection. Of its ends one is *here*: the one that opened it, or that was seen to send first.
#[derive(Debug)]
pub(super) struct Flow {
    /// The end that is here, and the other one.
    pub(super) ends: (Endpoint, Endpoint),
    /// Names this connection among all that had these ends.
    pub(super) incarnation: u64,
    /// Seen from its first byte on.
    pub(super) fresh: bool,
    pub(super) last_seen: Nanos,
    /// Data was seen.
    pub(super) spoke: bool,
    /// Both directions have ended, or a reset was seen.
    pub(super) closed: bool,
    /// Another flow shows the same connection: it was captured on both sides of an address translation.
    pub(super) echo: bool,
    /// Is in the list of those that wait.
    pub(super) listed: bool,
    /// By [`Direction`], seen from the end that is here.
    halves: [Half; 2],
    /// Sequence numbers and stamps of the SYNs, by direction.
    syns: [Option<(u32, Option<u32>)>; 2],
    /// Since when something is missing.
    stalled: Option<Nanos>,
    /// When what was missing last came: what had waited for it was not there earlier.
    filled: Nanos,
    order: u64,
}

/// What happens to a connection, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Move<'a> {
    /// Bytes of one direction, of which the first may have been captured.
    Bytes { direction: Direction, position: u64, length: u32, bytes: &'a [u8], time: Nanos },
    /// What one direction carried before this position went unseen.
    Lost { direction: Direction, position: u64, time: Nanos },
    /// One direction carries no more.
    Ended { direction: Direction, position: u64, time: Nanos },
    /// The connection is over.
    Closed { reset: bool, time: Nanos },
}

/// See [`Flow::handshake`].
pub(super) type Handshake = [u32; 4];

/// Whether a segment belongs to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Belongs {
    Here,
    /// To the next one between the same ends.
    Anew,
    /// It says nothing: a stray acknowledgement, or what is left of a connection that is over.
    Nowhere,
}

impl Flow {
    /// The connection that a segment opens or goes on with; `None` where it says nothing of one.
    pub(super) fn of(segment: &TcpSegment<'_>, incarnation: u64) -> Option<Self> {
        let TcpSegment { from, to, seq, ack, flags, length, .. } = *segment;
        if flags.rst || !flags.syn && length == 0 {
            return None;
        }
        let mut flow = Self {
            // An answer to a SYN goes to the end that opened.
            ends: if flags.syn && ack.is_some() { (to, from) } else { (from, to) },
            incarnation,
            fresh: flags.syn,
            last_seen: segment.time,
            spoke: false,
            closed: false,
            echo: false,
            listed: false,
            halves: [Half::default(), Half::default()],
            syns: [None, None],
            stalled: None,
            filled: 0,
            order: 0,
        };
        if !flags.syn {
            flow.half(Direction::Write).begin(seq, JOINED);
        }
        Some(flow)
    }

    /// Whether a segment is one of this connection's.
    pub(super) fn belongs(&self, segment: &TcpSegment<'_>) -> Belongs {
        let TcpSegment { seq, flags, length, .. } = *segment;
        let (half, syn) = self.side(segment);
        if flags.syn {
            return match syn {
                Some((syn, _)) if syn == seq => Belongs::Here,
                // The answer to a SYN, or one that came while the first was not seen.
                None if self.fresh && !self.closed && !half.is_known() => Belongs::Here,
                None if self.fresh && !self.closed && half.position(seq.wrapping_add(1)) == Some(0) => {
                    Belongs::Here
                }
                _ => Belongs::Anew,
            };
        }
        match (self.closed, half.is_known() && half.position(seq).is_none()) {
            (true, false) => Belongs::Nowhere,
            (false, false) => Belongs::Here,
            (_, true) if length == 0 || flags.rst => Belongs::Nowhere,
            (_, true) => Belongs::Anew,
        }
    }

    /// Takes a segment that belongs here, and hands `to` what is in order by now. `starved`: memory for what waits is short.
    pub(super) fn segment(
        &mut self,
        segment: &TcpSegment<'_>,
        limits: &Limits,
        starved: bool,
        mut to: impl FnMut(Move<'_>),
    ) {
        let TcpSegment { time, from, seq, ack, flags, bytes, length, .. } = *segment;
        let direction = if from == self.ends.0 { Direction::Write } else { Direction::Read };
        self.last_seen = self.last_seen.max(time);
        self.spoke |= length > 0;
        let seq = if flags.syn { self.open(direction, seq, segment.stamp) } else { seq };
        let start = if self.fresh { 0 } else { JOINED };
        if let Some(ack) = ack.filter(|_| !self.half(direction.opposite()).is_known()) {
            self.half(direction.opposite()).begin(ack, start);
        }
        if !self.half(direction).is_known() && !flags.rst {
            self.half(direction).begin(seq, start);
        }
        let after = ack.map_or(0, |ack| self.half(direction.opposite()).acknowledge(ack));
        if let Some(position) = self.half(direction).position(seq) {
            self.order += 1;
            let end = u64::try_from(position + i64::from(length)).unwrap_or(0);
            let piece = piece(position, length, bytes, time, after, self.order);
            let filled = piece.is_some_and(|piece| self.take(direction, &piece, &mut to));
            let half = self.half(direction);
            if flags.fin && end >= half.next() {
                half.fin.get_or_insert((end, after));
            }
            self.release(time, if filled { time } else { 0 }, &mut to);
        }
        if flags.rst {
            self.reset(time, &mut to);
        } else {
            self.keep_within(time, limits, starved, &mut to);
        }
    }

    /// Gives up what has been missing for too long.
    pub(super) fn expire(&mut self, now: Nanos, limits: &Limits, mut to: impl FnMut(Move<'_>)) {
        self.keep_within(now, limits, false, &mut to);
    }

    /// Nothing more will come: hands out all that waits.
    pub(super) fn flush(&mut self, mut to: impl FnMut(Move<'_>)) {
        while self.waits() && self.give_up(&mut to) {
            self.release(self.last_seen, 0, &mut to);
        }
    }

    /// Another one takes its place: how it ended was not seen.
    pub(super) fn replace(&mut self, time: Nanos, mut to: impl FnMut(Move<'_>)) {
        self.flush(&mut to);
        if !std::mem::replace(&mut self.closed, true) {
            to(Move::Closed { reset: false, time });
        }
    }

    /// What a handshake tells of a connection whatever addresses it has: first sequence numbers and clocks of both ends.
    /// Without clocks nothing, since there are stacks that always begin with the same numbers.
    pub(super) fn handshake(&self) -> Option<Handshake> {
        let [Some((ours, Some(our_clock))), Some((theirs, Some(their_clock)))] = self.syns else {
            return None;
        };
        Some([ours, our_clock, theirs, their_clock])
    }

    /// Something waits for what is missing.
    pub(super) fn waits(&self) -> bool {
        self.stalled.is_some()
    }

    /// What the pieces that wait cost.
    pub(super) fn held_bytes(&self) -> usize {
        self.halves.iter().map(Half::held_bytes).sum()
    }

    fn half(&mut self, direction: Direction) -> &mut Half {
        let [write, read] = &mut self.halves;
        if direction == Direction::Write { write } else { read }
    }

    fn halves(&self, direction: Direction) -> (&Half, &Half) {
        let [write, read] = &self.halves;
        if direction == Direction::Write { (write, read) } else { (read, write) }
    }

    /// The sender's direction, and its SYN.
    fn side(&self, segment: &TcpSegment<'_>) -> (&Half, Option<(u32, Option<u32>)>) {
        let ([write, read], [ours, theirs]) = (&self.halves, self.syns);
        if segment.from == self.ends.0 { (write, ours) } else { (read, theirs) }
    }

    /// A SYN: the bytes begin behind it. Returns their sequence number.
    fn open(&mut self, direction: Direction, seq: u32, stamp: Option<u32>) -> u32 {
        let first = seq.wrapping_add(1);
        let [ours, theirs] = &mut self.syns;
        let syn = if direction == Direction::Write { ours } else { theirs };
        if syn.replace((seq, stamp)).is_none() && !self.half(direction).is_known() {
            self.half(direction).begin(first, 0);
        }
        first
    }

    /// Hands out a piece, or keeps it; true where nothing is missing before it.
    fn take(&mut self, direction: Direction, piece: &Piece<'_>, to: &mut impl FnMut(Move<'_>)) -> bool {
        let (here, there) = self.halves(direction);
        let Some(news) = here.news(piece) else { return false };
        let fits = there.has(news.after) && here.has(news.position);
        // What overlaps with bytes that came earlier is taken apart where these are kept.
        let end = news.position + u64::from(news.length);
        if !fits || here.front().is_some_and(|(first, ..)| first < end) {
            self.half(direction).hold(&news);
        } else {
            self.hand_out(direction, &news, to);
        }
        fits
    }

    fn hand_out(&mut self, direction: Direction, piece: &Piece<'_>, to: &mut impl FnMut(Move<'_>)) {
        let Piece { position, length, bytes, time, .. } = *piece;
        self.half(direction).advance(position + u64::from(length));
        to(Move::Bytes { direction, position, length, bytes, time });
    }

    /// Hands out what waits, as far as nothing it waits for is missing. `filled`: when something came that it may have
    /// waited for.
    fn release(&mut self, now: Nanos, filled: Nanos, to: &mut impl FnMut(Move<'_>)) {
        let mut progress = false;
        while let Some(direction) = self.ready() {
            progress = true;
            let Some((position, held)) = self.half(direction).pop() else { break };
            self.filled = self.filled.max(filled);
            let piece = Piece {
                position,
                length: held.length,
                bytes: &held.bytes,
                time: held.time.max(self.filled),
                after: held.after,
                order: held.order,
            };
            if let Some(news) = self.halves(direction).0.news(&piece) {
                self.hand_out(direction, &news, to);
            }
        }
        for direction in [Direction::Write, Direction::Read] {
            let (here, there) = self.halves(direction);
            let over = here.fin.is_some_and(|(end, after)| here.has(end) && there.has(after));
            if over && !here.ended && here.pieces() == 0 {
                progress = true;
                let position = here.next();
                self.half(direction).ended = true;
                to(Move::Ended { direction, position, time: now.max(self.filled) });
            }
        }
        if self.halves.iter().all(|half| half.ended) && !self.closed {
            self.closed = true;
            to(Move::Closed { reset: false, time: now });
        }
        let missing = self.halves.iter().any(|half| half.pieces() > 0 || half.fin.is_some() && !half.ended);
        match (missing, self.stalled) {
            (false, _) => (self.stalled, self.filled) = (None, 0),
            (true, Some(_)) if !progress => {}
            (true, _) => self.stalled = Some(now),
        }
    }

    /// The direction whose first piece can go; of two the one that came first.
    fn ready(&self) -> Option<Direction> {
        let order = |direction| {
            let (here, there) = self.halves(direction);
            let (position, after, order) = here.front()?;
            (here.has(position) && there.has(after)).then_some((order, direction))
        };
        [Direction::Write, Direction::Read]
            .into_iter()
            .filter_map(order)
            .min()
            .map(|(_, direction)| direction)
    }

    fn keep_within(&mut self, now: Nanos, limits: &Limits, starved: bool, to: &mut impl FnMut(Move<'_>)) {
        while let Some(since) = self.stalled {
            let acknowledged = self.halves.iter().any(Half::misses);
            let patience = if acknowledged { GRACE } else { limits.patience };
            let pieces: usize = self.halves.iter().map(Half::pieces).sum();
            let within = now.saturating_sub(since) <= patience
                && pieces <= limits.pieces
                && self.held_bytes() <= limits.bytes
                && (!starved || pieces == 0);
            if within || !self.give_up(to) {
                return;
            }
            self.release(now, 0, to);
        }
    }

    /// Steps over the first hole: that before what came first of all that waits. False where there is none.
    fn give_up(&mut self, to: &mut impl FnMut(Move<'_>)) -> bool {
        let first = |direction| {
            let (here, _) = self.halves(direction);
            let fin = here.fin.filter(|_| !here.ended).map(|(end, after)| (end, after, u64::MAX));
            let (position, after, order) = here.front().or(fin)?;
            Some((order, direction, position, after, here.time().unwrap_or(self.last_seen)))
        };
        let first = [Direction::Write, Direction::Read].into_iter().filter_map(first).min();
        let Some((_, direction, position, after, time)) = first else { return false };
        let (here, there) = self.halves(direction);
        // The answer to bytes that nobody saw, or bytes behind a hole.
        let (direction, half, until) =
            if there.has(after) { (direction, here, position) } else { (direction.opposite(), there, after) };
        let position = half.beyond_hole(until);
        if half.has(position) {
            return false;
        }
        if self.fresh && self.halves.iter().all(|half| half.next() == 0) {
            // Nothing has been said of it: this says that its beginning was seen.
            to(Move::Lost { direction, position: 0, time });
        }
        self.half(direction).advance(position);
        to(Move::Lost { direction, position, time });
        true
    }

    /// The connection breaks off.
    fn reset(&mut self, time: Nanos, to: &mut impl FnMut(Move<'_>)) {
        while self.waits() && self.give_up(to) {
            self.release(time, 0, to);
        }
        if !self.closed {
            self.closed = true;
            to(Move::Closed { reset: true, time });
        }
        self.stalled = None;
    }
}

/// Data from a position on, which may begin before the first byte (a keep-alive's).
fn piece(position: i64, length: u32, bytes: &[u8], time: Nanos, after: u64, order: u64) -> Option<Piece<'_>> {
    let before = u32::try_from(position.min(0).unsigned_abs()).ok()?;
    let length = length.checked_sub(before).filter(|&length| length > 0)?;
    let bytes = bytes.get(before as usize..).unwrap_or_default();
    Some(Piece { position: u64::try_from(position.max(0)).ok()?, length, bytes, time, after, order })
}
