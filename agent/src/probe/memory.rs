//! Memory that only start-up needs, given back.

use std::ffi::{c_int, c_void};

/// Gives memory that start-up took back to the system: what the allocator would keep (5 MB for the kernel's types), and the pages of
/// this program and its libraries. More than half of those hold what only start-up runs or reads: command line, configuration, loader,
/// and the kernel programs themselves. What is used again comes back from the page cache, by 64 KiB at a time.
pub fn release() {
    trim();
    drop_code();
}

#[expect(unsafe_code, reason = "malloc_trim(3)")]
fn trim() {
    // SAFETY: no conditions; other threads may allocate meanwhile.
    unsafe { libc::malloc_trim(0) };
}

#[expect(unsafe_code, reason = "dl_iterate_phdr(3)")]
fn drop_code() {
    // SAFETY: the function has the signature that is asked for, and looks at nothing behind the null pointer.
    unsafe { libc::dl_iterate_phdr(Some(drop_object), std::ptr::null_mut()) };
}

/// Drops the pages of one object's segments that nothing can have written to: they are as the file has them.
#[expect(unsafe_code, reason = "reads what the dynamic linker says of an object, and madvise(2)")]
unsafe extern "C" fn drop_object(object: *mut libc::dl_phdr_info, _: usize, _: *mut c_void) -> c_int {
    // SAFETY: dl_iterate_phdr passes a description that is valid during the call.
    let object = unsafe { &*object };
    if object.dlpi_phdr.is_null() {
        return 0;
    }
    // SAFETY: so many program headers stand there, for as long as the object is loaded.
    let segments = unsafe { std::slice::from_raw_parts(object.dlpi_phdr, usize::from(object.dlpi_phnum)) };
    // The vDSO is an object too, and no file's.
    if !segments
        .iter()
        .any(|segment| segment.p_type == libc::PT_INTERP || segment.p_type == libc::PT_GNU_STACK)
    {
        return 0;
    }
    let page = rustix::param::page_size() as u64;
    for segment in segments.iter().filter(|segment| segment.p_type == libc::PT_LOAD) {
        // Relocations are written before main, and only where that is allowed; a segment that is not writable has none.
        if segment.p_flags & libc::PF_W != 0 {
            continue;
        }
        let start = object.dlpi_addr.wrapping_add(segment.p_vaddr) / page * page;
        // The last page may hold the next segment's first bytes, but in another mapping of its own.
        let end = object.dlpi_addr.wrapping_add(segment.p_vaddr).wrapping_add(segment.p_filesz);
        let length = end.saturating_sub(start).next_multiple_of(page);
        let at = std::ptr::with_exposed_provenance_mut::<c_void>(start as usize);
        // SAFETY: a mapping of a file, private and never written to: what is dropped is read from the file again.
        unsafe { libc::madvise(at, length as usize, libc::MADV_DONTNEED) };
    }
    0
}

#[cfg(test)]
mod tests {
    /// Code, constants and what relocation has written: a page of these that did not come back as it was would crash here.
    #[test]
    fn what_was_given_back_is_there_again() {
        let told = || format!("{:?} {:.3}", std::env::current_exe().ok(), 2.0_f64.sqrt());
        let before = told();
        super::release();
        super::release();
        assert_eq!(told(), before);
    }
}
