//! Whether this process may have perf events. Capabilities alone do not tell: a filter on system calls or a security
//! module may refuse them.

use std::io;

/// Opens the event that counts nothing, for all processes, as a tracepoint's is opened.
///
/// # Errors
/// What perf_event_open(2) says.
#[expect(unsafe_code, reason = "perf_event_open(2) has no wrapper")]
pub fn may_have_perf_events() -> io::Result<()> {
    /// `PERF_ATTR_SIZE_VER0`: what every kernel takes. Type, size, configuration, and nothing else set.
    const BYTES: u32 = 64;
    const SOFTWARE: u32 = 1;
    const DUMMY: u32 = 9;
    const FIRST_PROCESSOR: libc::c_int = 0;
    const ALL_PROCESSES: libc::c_int = -1;
    /// `PERF_FLAG_FD_CLOEXEC`
    const CLOSE_ON_EXEC: libc::c_ulong = 8;
    let mut attributes = [0_u32; BYTES as usize / 4];
    attributes[..3].copy_from_slice(&[SOFTWARE, BYTES, DUMMY]);
    // SAFETY: as many bytes as they say, which the kernel reads.
    let event = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            attributes.as_mut_ptr(),
            ALL_PROCESSES,
            FIRST_PROCESSOR,
            -1,
            CLOSE_ON_EXEC,
        )
    };
    let event = libc::c_int::try_from(event).map_err(io::Error::other)?;
    if event < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just opened, and nobody else's.
    unsafe { libc::close(event) };
    Ok(())
}
