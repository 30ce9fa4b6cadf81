//! What a socket's state learns from the bytes of a call: where messages begin, where heads end.

use aya_ebpf::helpers::generated::bpf_probe_read_user;
use sonde_abi::ConnState;
use sonde_abi::conn::{mode, state_flags};
use sonde_abi::limits::{HEAD_BYTES, LOOKS, SOFT_HEAD_BYTES};
use sonde_abi::settings::KernelCounter;
use sonde_abi::sniff::{self, Start};

use crate::access::{bounded, opaque};
use crate::head::Piece;
use crate::maps::count;

/// Looks at the first bytes of a call, in the memory of the process: what they say, the bytes, and how many there are.
#[inline(always)]
pub fn peek(base: u64, len: u64) -> (Start, [u64; 2], u32) {
    let mut first = [0_u64; 2];
    // SAFETY: at most the array's size; the helper checks the address.
    let failed = unsafe {
        bpf_probe_read_user(
            first.as_mut_ptr().cast(),
            bounded(len, sniff::LOOK as u64) as u32,
            base as *const _,
        )
    };
    if failed != 0 {
        return (Start::Other, first, 0);
    }
    // Bounded anew: on 5.10 the verifier forgets the bounds of a number that is kept on the stack.
    let len = bounded(len, sniff::LOOK as u64);
    (sniff::http1(&first, len as usize), first, len as u32)
}

/// What of a call is worth sending.
pub enum Copy {
    /// Nothing.
    Nothing,
    /// How long it was.
    Length,
    /// Its first bytes.
    Payload,
}

/// Moves the state on by what the first bytes of a call say.
#[inline(always)]
pub fn recognise(state: &mut ConnState, start: Start, first: &[u64; 2]) -> Copy {
    let changed = state.flags & state_flags::CHANGED != 0;
    match start {
        // Text within a run is no message yet.
        _ if state.mode == mode::UNKNOWN && !changed && state.head_left == 0 => {}
        Start::Request | Start::Response => {
            state.mode = mode::HTTP1;
            state.head_left = HEAD_BYTES;
            state.flags &= !(state_flags::SOFT | state_flags::RESPONSE | state_flags::SWITCHED);
            if start == Start::Response {
                let switched = opaque(sniff::switches(first)) as u8 * state_flags::SWITCHED;
                state.flags |= state_flags::RESPONSE | switched;
                state.looks = 0;
                return Copy::Payload;
            }
        }
        Start::Short if changed => {
            state.mode = mode::HTTP1;
            state.head_left = HEAD_BYTES;
        }
        // The middle of a run: a body.
        _ if !changed => {
            return if state.flags & state_flags::PIPELINED != 0 { Copy::Payload } else { Copy::Length };
        }
        _ => {}
    }
    state.looks += 1;
    leave_alone(state);
    match state.mode {
        mode::UNKNOWN => Copy::Nothing,
        _ if state.head_left > 0 || state.flags & state_flags::PIPELINED != 0 => Copy::Payload,
        _ => Copy::Length,
    }
}

/// A look that was in vain: past the last, the connection is left alone for good.
#[inline(always)]
pub fn leave_alone(state: &mut ConnState) {
    if state.looks > LOOKS {
        state.mode = mode::OFF;
        count(KernelCounter::LeftAlone);
    }
}

/// What became of a head.
pub struct Consumed {
    /// It goes on behind the piece, and is worth copying.
    pub more: bool,
    /// Where it ended, 0 where that is not known.
    pub end: u64,
}

impl Consumed {
    /// Where it ended is not known.
    pub const NOT_FOUND: Self = Self { more: false, end: 0 };
}

/// Takes a piece off the head under way. `ended`: where it is known to hold an empty line, else 0.
#[inline(always)]
pub fn consume<const N: usize>(
    state: &mut ConnState,
    piece: Piece<N>,
    first: bool,
    whole: bool,
    ended: u64,
) -> Consumed {
    let len = piece.len as u32;
    let left = state.head_left.saturating_sub(len);
    let response = state.flags & state_flags::RESPONSE != 0;
    if state.flags & state_flags::SOFT != 0 {
        state.head_left = left;
        return Consumed::NOT_FOUND;
    }
    if (ended != 0 || piece.ends_head()) && (response || !first) {
        state.head_left = 0;
        return Consumed { more: false, end: if ended != 0 { ended } else { piece.len as u64 } };
    }
    if response && (whole || !first) && state.flags & state_flags::SWITCHED == 0 {
        // Most responses bring head and body in one call: not worth a search. If the head goes on, it does so soon. And one
        // that is longer than a large piece has nothing to say that is worth more.
        state.flags |= state_flags::SOFT;
        state.head_left = SOFT_HEAD_BYTES;
        return Consumed::NOT_FOUND;
    }
    // Further pieces are copied without a search: most of them end with the head, and few calls have any.
    let end = if first { piece.forgetting().head_end() } else { 0 };
    if end == 0 {
        state.head_left = left;
        if left == 0 {
            count(KernelCounter::HeadTooLong);
        }
        return Consumed { more: left > 0, end: 0 };
    }
    state.head_left = 0;
    if !response && piece.request_at(end) {
        state.flags |= state_flags::PIPELINED;
    }
    Consumed { more: false, end: end as u64 }
}
