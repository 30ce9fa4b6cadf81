//! The kernel programs, loaded and attached. The only module that names aya, and with `ebpf` and `abi` the only place
//! with `unsafe`.

mod attach;
#[cfg(feature = "log")]
mod log;
mod processes;
mod ring;

pub use attach::{Attached, Place, ProbeError, Probes, Settings};
pub use processes::ProcessStates;
pub use ring::Ring;

/// Gives memory that start-up took back to the system: what the allocator would keep (5 MB for the kernel's types), and the
/// program's own code, most of which never runs again (a third of an idle agent). What does is mapped again from the page
/// cache, 64 KiB at a time.
#[expect(unsafe_code, reason = "malloc_trim(3), madvise(2)")]
pub fn release_memory() {
    // SAFETY: no conditions; other threads may allocate meanwhile.
    unsafe { libc::malloc_trim(0) };
    for (start, length) in own_code() {
        // SAFETY: a private mapping of a file that was never writable: its pages are the file's, and come back as such.
        unsafe { libc::madvise(std::ptr::without_provenance_mut(start), length, libc::MADV_DONTNEED) };
    }
}

/// Where this program's file is mapped and never was writable: its code, and the constants before it (proc(5), `maps`). What
/// relocation has written to, though it may only be read since, lies elsewhere in the file.
fn own_code() -> Vec<(usize, usize)> {
    let Ok(exe) = std::fs::read_link("/proc/self/exe") else { return Vec::new() };
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let code = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let (rights, offset) = (fields.next()?, fields.next()?);
        let is_own = fields.nth(2).is_some_and(|path| exe.as_os_str() == path);
        let untouched = rights == "r-xp" || rights == "r--p" && offset.bytes().all(|digit| digit == b'0');
        let start = usize::from_str_radix(start, 16).ok()?;
        let end = usize::from_str_radix(end, 16).ok()?;
        (is_own && untouched).then_some((start, end.checked_sub(start)?))
    };
    maps.lines().filter_map(code).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn code_that_was_given_back_still_runs() {
        let code = super::own_code();
        let here = super::release_memory as *const () as usize;
        assert!(code.iter().any(|&(start, length)| (start..start + length).contains(&here)), "{code:x?}");
        super::release_memory();
        super::release_memory();
    }
}
