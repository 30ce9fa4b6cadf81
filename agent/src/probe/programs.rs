//! Which programs run where.

use crate::kernel::{HookFamily, Tracepoint};

/// Where a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// At a tracepoint.
    At(Tracepoint),
    /// At a tracepoint's perf event.
    Event(Tracepoint),
    /// At the end of a function of the kernel, one of [`crate::kernel::FUNCTIONS`].
    After(&'static str),
    /// Where another program calls it that is at this tracepoint, by the first element of an array.
    Called(Tracepoint, &'static str),
    /// The same with a program at the tracepoint's perf event.
    CalledByEvent(Tracepoint, &'static str),
}

impl Place {
    /// As the kernel calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::At(tracepoint)
            | Self::Event(tracepoint)
            | Self::Called(tracepoint, _)
            | Self::CalledByEvent(tracepoint, _) => tracepoint.name(),
            Self::After(function) => function,
        }
    }
}

/// Two programs for one thing, each of which does it where the other is skipped.
pub(super) const PAIR: [&str; 2] = ["set_state_walked", "set_state_perf"];

/// A program, where it goes, and what is missing without it; `None` where nothing would be seen.
pub(super) type Wanted = (&'static str, Place, Option<&'static str>);

/// The programs of a family in the order of attaching.
pub(super) fn wanted(family: HookFamily, perf_events: bool) -> Vec<Wanted> {
    use Place::{After, At, Called, CalledByEvent, Event};
    use Tracepoint as T;
    const ANOTHER: &str = "a process may be taken for the one that had its id, or its program, before";
    const FORKED: &str = "a forked process that ends before it is looked at is not known";
    const NAMELESS: &str = "a process that ends before it is looked at has no name";
    const LIFE: &str = "who called connect and when connections end is not seen";
    const SOME_LIFE: &str = "some connects and ends of connections are not seen";
    const FRAMES: &str = "HTTP/2 and gRPC are not seen";
    const SENT: &str = "FRAMES_SENT";
    const RECEIVED: &str = "FRAMES_RECEIVED";
    const TCP: (Place, Option<&str>) =
        (After("tcp_splice_read"), Some("what splice(2) takes from a TCP socket is a gap"));
    const UNIX: (Place, Option<&str>) = (
        After("unix_stream_splice_read"),
        Some("what splice(2) takes from a unix socket is not counted: exchanges after it are not seen right"),
    );
    let mut wanted = vec![
        ("process_exit", At(T::SchedProcessExit), Some(ANOTHER)),
        ("process_exec", At(T::SchedProcessExec), Some(ANOTHER)),
        ("process_fork", At(T::SchedProcessFork), Some(FORKED)),
        ("process_program", At(T::SchedProcessExec), Some(NAMELESS)),
    ];
    if perf_events || family == HookFamily::Syscalls {
        wanted.push(("set_state_walked", At(T::InetSockSetState), Some(LIFE)));
    }
    if perf_events {
        wanted.push(("set_state_perf", Event(T::InetSockSetState), Some(SOME_LIFE)));
    }
    match (family, perf_events) {
        (HookFamily::Lengths, false) => wanted.extend([
            ("set_state_typed", At(T::InetSockSetState), Some(LIFE)),
            ("sent", At(T::SockSendLength), None),
            ("received", At(T::SockRecvLength), None),
            ("spliced_tcp", TCP.0, TCP.1),
            ("spliced_unix", UNIX.0, UNIX.1),
            ("frames_sent", Called(T::SockSendLength, SENT), Some(FRAMES)),
            ("frames_received", Called(T::SockRecvLength, RECEIVED), Some(FRAMES)),
        ]),
        (HookFamily::Lengths, true) => wanted.extend([
            ("sent_perf", Event(T::SockSendLength), None),
            ("received_perf", Event(T::SockRecvLength), None),
            ("spliced_tcp_walked", TCP.0, TCP.1),
            ("spliced_unix_walked", UNIX.0, UNIX.1),
            ("frames_perf_sent", CalledByEvent(T::SockSendLength, SENT), Some(FRAMES)),
            ("frames_perf_received", CalledByEvent(T::SockRecvLength, RECEIVED), Some(FRAMES)),
        ]),
        (HookFamily::Syscalls, false) => wanted.extend([
            ("sys_exit", At(T::SysExit), None),
            ("frames_exit_sent", Called(T::SysExit, SENT), Some(FRAMES)),
            ("frames_exit_received", Called(T::SysExit, RECEIVED), Some(FRAMES)),
        ]),
        (HookFamily::Syscalls, true) => wanted.extend([
            ("sys_exit_perf", Event(T::SysExit), None),
            ("frames_perf_exit_sent", CalledByEvent(T::SysExit, SENT), Some(FRAMES)),
            ("frames_perf_exit_received", CalledByEvent(T::SysExit, RECEIVED), Some(FRAMES)),
        ]),
    }
    wanted
}
