//! One direction of a connection: where in which message its next byte stands.

use super::body::{Body, Content};
use crate::conn::Stamp;
use crate::proto::ExchangeId;

/// Capacity that a head's buffer may keep between messages.
const KEPT_CAPACITY: usize = 2048;

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// A head: its first bytes are in [`Half::buffer`], which is empty between messages.
    Head,
    /// A body.
    Body(Body),
    /// Not known. The next call that begins like a message ends this.
    Lost,
}

/// One direction.
#[derive(Debug)]
pub(super) struct Half {
    pub(super) state: State,
    /// Position of the next byte, `None` before the first where that may stand anywhere.
    pub(super) next: Option<u64>,
    /// A head that came in pieces, as far as it is here.
    pub(super) buffer: Vec<u8>,
    /// Bytes of `buffer` that hold no end of the head.
    pub(super) searched: usize,
    /// The start line in `buffer` is whole and makes sense.
    pub(super) line_seen: bool,
    /// First byte of the current message.
    pub(super) first: Stamp,
    /// Its position.
    pub(super) start: u64,
    /// What came before it.
    pub(super) before: Before,
    /// What stood before it went unseen, so that it may be the end of something.
    pub(super) severed: bool,
    /// Last byte seen of the current message.
    pub(super) last: Stamp,
    /// What is known of the current body.
    pub(super) content: Content,
    /// Whose message is being read; `None` where it belongs to no exchange that is reported.
    pub(super) exchange: Option<ExchangeId>,
    /// No more bytes will come.
    pub(super) ended: bool,
}

/// What preceded the first byte of a message on its connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Before {
    /// The other direction moved last: the two ends take turns.
    pub(super) turn: bool,
    /// Nothing moved for [`super::QUIET`].
    pub(super) quiet: bool,
}

impl Half {
    /// `fresh`: its first byte will be seen. `begin`: where that stands, as far as it is known.
    pub(super) fn new(fresh: bool, begin: Option<u64>) -> Self {
        Self {
            state: State::Head,
            next: begin,
            buffer: Vec::new(),
            searched: 0,
            line_seen: false,
            first: Stamp::default(),
            start: 0,
            before: Before::default(),
            severed: !fresh,
            last: Stamp::default(),
            content: Content::default(),
            exchange: None,
            ended: false,
        }
    }

    /// Between two messages.
    pub(super) fn at_boundary(&self) -> bool {
        self.state == State::Head && self.buffer.is_empty()
    }

    /// Empties the buffer and hands it out with what it held; [`Half::put_back`] keeps its memory for the next head.
    pub(super) fn take_buffer(&mut self) -> Vec<u8> {
        self.searched = 0;
        self.line_seen = false;
        std::mem::take(&mut self.buffer)
    }

    pub(super) fn put_back(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() <= KEPT_CAPACITY {
            buffer.clear();
            self.buffer = buffer;
        }
    }

    /// Forgets the message being read.
    pub(super) fn reset(&mut self, state: State) {
        let buffer = self.take_buffer();
        self.put_back(buffer);
        self.state = state;
        self.exchange = None;
        self.content.web = None;
    }
}
