//! The program's own code, as far as it is in memory.

use std::{
    ffi::{CStr, c_int, c_void},
    slice,
};

/// Lets go of all pages of code and constants, of the program and its libraries. What is needed from now on is found in the page cache again, at the
/// price of a minor fault for each sixteen pages; what only the start needed is nobody's any more: command line, filters of logs, files of certificates.
pub fn release() {
    // SAFETY: the callback takes what the C library gives it and keeps none of it.
    unsafe { libc::dl_iterate_phdr(Some(release_object), std::ptr::null_mut()) };
}

/// Of one object: the program, a library.
unsafe extern "C" fn release_object(info: *mut libc::dl_phdr_info, _: usize, _: *mut c_void) -> c_int {
    // SAFETY: the C library gives a description that is valid during the call, with a name that ends and as many headers as it says.
    let (info, headers) = unsafe {
        let info = &*info;
        if info.dlpi_phdr.is_null() || is_kernels(info) {
            return 0;
        }
        (info, slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()))
    };
    // SAFETY: asks for a number.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    for header in headers {
        if header.p_type != libc::PT_LOAD || header.p_flags & libc::PF_W != 0 {
            continue;
        }
        let begin = (info.dlpi_addr as usize).wrapping_add(header.p_vaddr as usize);
        let end = (begin + header.p_memsz as usize).next_multiple_of(page);
        let begin = begin / page * page;
        // SAFETY: a part of the object that is mapped from its file and never written, so that its pages are read from there again with the same
        // contents. A refusal costs memory alone.
        let _ = unsafe { libc::madvise(begin as *mut c_void, end - begin, libc::MADV_DONTNEED) };
    }
    0
}

/// What the kernel maps into every process is in no file.
///
/// # Safety
/// The name is null or ends.
unsafe fn is_kernels(info: &libc::dl_phdr_info) -> bool {
    // SAFETY: the caller's promise.
    !info.dlpi_name.is_null()
        && unsafe { CStr::from_ptr(info.dlpi_name) }
            .to_bytes()
            .starts_with(b"linux-vdso")
}

#[cfg(test)]
mod tests {
    use std::fs;

    /// Resident pages of files, in KiB.
    fn resident() -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    #[test]
    fn what_the_start_needed_is_nobodys_any_more_and_all_works_as_before() {
        let before = resident();
        super::release();
        let after = resident();
        assert!(after < before, "{after} KiB after {before}");
        assert_eq!(format!("{:?}", [1.5, 2.5]), "[1.5, 2.5]");
    }
}
