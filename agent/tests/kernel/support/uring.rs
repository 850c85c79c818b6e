//! `connect` through io_uring, on bare system calls: one ring, one request.

use socket2::SockAddr;
use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr::null_mut,
    sync::atomic::{AtomicU32, Ordering},
};

const IORING_OP_CONNECT: u8 = 16;
const IORING_ENTER_GETEVENTS: u32 = 1;
const OFFSET_SQ_RING: i64 = 0;
const OFFSET_CQ_RING: i64 = 0x800_0000;
const OFFSET_SQES: i64 = 0x1000_0000;
/// Room for the rings of one entry.
const LENGTH: usize = 4096;

/// `struct io_uring_params`.
#[repr(C)]
#[derive(Default)]
struct Params {
    entries: [u32; 2],
    flags: u32,
    sq_thread: [u32; 2],
    features: u32,
    wq_fd: u32,
    reserved: [u32; 3],
    sq: SqOffsets,
    cq: CqOffsets,
}

#[repr(C)]
#[derive(Default)]
struct SqOffsets {
    head: u32,
    tail: u32,
    ring_mask: u32,
    ring_entries: u32,
    flags: u32,
    dropped: u32,
    array: u32,
    reserved: u32,
    user_address: u64,
}

#[repr(C)]
#[derive(Default)]
struct CqOffsets {
    head: u32,
    tail: u32,
    ring_mask: u32,
    ring_entries: u32,
    overflow: u32,
    cqes: u32,
    flags: u32,
    reserved: u32,
    user_address: u64,
}

/// `struct io_uring_sqe`, the fields of a connect request.
#[repr(C)]
struct Sqe {
    opcode: u8,
    flags: u8,
    priority: u16,
    fd: i32,
    /// The length of the address.
    offset: u64,
    address: u64,
    length: u32,
    rest: [u32; 9],
}

/// Connects and waits for the outcome.
pub(crate) fn connect(socket: BorrowedFd<'_>, to: &SockAddr) -> io::Result<()> {
    let mut params = Params::default();
    // SAFETY: the structure is the one that the kernel fills.
    let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, &mut params) };
    if ring < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made.
    let ring = unsafe { OwnedFd::from_raw_fd(ring as i32) };
    let (sq, cq, sqes) = (
        map(&ring, OFFSET_SQ_RING)?,
        map(&ring, OFFSET_CQ_RING)?,
        map(&ring, OFFSET_SQES)?,
    );
    let request = Sqe {
        opcode: IORING_OP_CONNECT,
        flags: 0,
        priority: 0,
        fd: socket.as_raw_fd(),
        offset: to.len().into(),
        address: to.as_ptr() as u64,
        length: 0,
        rest: [0; 9],
    };
    // SAFETY: the offsets are the kernel's, inside pages that are mapped; one entry, so its index is 0.
    unsafe {
        sqes.cast::<Sqe>().write(request);
        sq.add(params.sq.array as usize).cast::<u32>().write(0);
        let tail = AtomicU32::from_ptr(sq.add(params.sq.tail as usize).cast());
        tail.fetch_add(1, Ordering::Release);
        let done = libc::syscall(
            libc::SYS_io_uring_enter,
            ring.as_raw_fd(),
            1,
            1,
            IORING_ENTER_GETEVENTS,
            0,
            0,
        );
        if done < 0 {
            return Err(io::Error::last_os_error());
        }
        // Behind the user data.
        let outcome = cq.add(params.cq.cqes as usize + 8).cast::<i32>().read();
        if outcome < 0 {
            Err(io::Error::from_raw_os_error(-outcome))
        } else {
            Ok(())
        }
    }
}

fn map(ring: &OwnedFd, offset: i64) -> io::Result<*mut u8> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping; it stays until the process ends, which for a test is soon.
    let address = unsafe {
        libc::mmap(
            null_mut(),
            LENGTH,
            protection,
            libc::MAP_SHARED,
            ring.as_raw_fd(),
            offset,
        )
    };
    if address == libc::MAP_FAILED {
        Err(io::Error::last_os_error())
    } else {
        Ok(address.cast())
    }
}
