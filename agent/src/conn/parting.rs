//! Ends of connections that were told before all that had moved until then: the record of a call comes when it returns, and a
//! reset or the other end's FIN may be told while it lasts. So where bytes are missing before an end it waits for them as a
//! chunk behind a hole does. What does not come was lost, and the exchange that it belonged to is marked.

use sonde_abi::LifeHeader;
use sonde_abi::record::life_flags;

use super::{Direction, Nanos, Reassembly, Segment, Stamp};
use crate::proto::Ending;

/// An end that was told: of the bytes that this end writes, or of the connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parting {
    /// When.
    pub(super) time: Nanos,
    /// The connection is over.
    pub(super) ending: Option<Ending>,
    /// This end writes no more.
    pub(super) finished: bool,
    /// Position behind the last byte written, and the last one read.
    written: u64,
    read: u64,
    /// That was all that there was to read.
    pub(super) read_all: bool,
}

impl Parting {
    /// This end has sent its FIN.
    pub(super) const fn finished(header: &LifeHeader) -> Self {
        let LifeHeader { time_ns, written, read, flags, .. } = *header;
        let read_all = flags & life_flags::READ_ALL != 0;
        Self { time: time_ns, ending: None, finished: true, written, read, read_all }
    }

    /// The connection is gone.
    pub(super) const fn closed(header: &LifeHeader, ending: Ending) -> Self {
        Self { ending: Some(ending), finished: false, ..Self::finished(header) }
    }

    /// This one, after `before`, which waits still.
    pub(super) fn after(self, before: Option<Self>) -> Self {
        Self { finished: self.finished || before.is_some_and(|before| before.finished), ..self }
    }

    /// Bytes before it have not been seen.
    pub(super) fn lacks(&self, reassembly: &Reassembly) -> bool {
        reassembly.waits()
            || reassembly.lacks(Direction::Write, self.written)
            || reassembly.lacks(Direction::Read, self.read)
    }

    /// Steps over what is missing before it, once nothing waits. Returns how many holes that were. `always`: also what a reset
    /// cut off of a write.
    pub(super) fn reach(
        &self,
        reassembly: &mut Reassembly,
        always: bool,
        mut to: impl FnMut(Direction, &Segment<'_>),
    ) -> u64 {
        let stamp = Stamp { time: self.time, arrival: self.time, ..Stamp::default() };
        let mut holes = 0;
        // What a call wrote that a reset interrupted is told behind it, or by `syscalls` not at all: that is no loss, and the
        // exchange tells of the reset.
        if always || self.ending != Some(Ending::Reset) {
            holes += reassembly.reach(Direction::Write, self.written, stamp, &mut to);
        }
        holes + reassembly.reach(Direction::Read, self.read, stamp, &mut to)
    }
}
