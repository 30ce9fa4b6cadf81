//! How processes began: places in memory that the kernel programs write.

use aya::Pod;
use aya::maps::{Array, Map, MapData};
use sonde_abi::Start;

use super::error::{ProbeError, wrap};

/// The places.
pub struct ProcessStarts(Array<MapData, Place>);

#[repr(transparent)]
#[derive(Clone, Copy)]
struct Place(Start);
#[expect(unsafe_code, reason = "aya's marker for what may be copied out of a map")]
// SAFETY: a `repr(C)` struct of integers and arrays of bytes without padding.
unsafe impl Pod for Place {}

impl ProcessStarts {
    pub(super) fn new(map: Map) -> Result<Self, ProbeError> {
        Ok(Self(Array::try_from(map).map_err(wrap("map STARTS"))?))
    }

    /// What is kept of a process; `None` where its place is another's by now, or that of none.
    #[must_use]
    pub fn of(&self, tgid: u32) -> Option<Start> {
        let Place(start) = self.0.get(&Start::place(tgid), 0).ok()?;
        (start.tgid == tgid).then_some(start)
    }
}
