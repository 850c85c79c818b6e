//! The few calls of `bpf(2)` for which aya has no open door: links that are created, found, replaced and pinned as such.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

const BPF_MAP_DELETE_ELEM: libc::c_int = 3;
const BPF_OBJ_PIN: libc::c_int = 6;
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_LINK_UPDATE: libc::c_int = 29;
const BPF_LINK_DETACH: libc::c_int = 34;

const BPF_LINK_TYPE_CGROUP: u32 = 3;
const BPF_LINK_TYPE_NETNS: u32 = 5;
const BPF_LINK_TYPE_TCX: u32 = 11;

/// To a map of sockets: looks at what they send.
const BPF_SK_MSG_VERDICT: u32 = 7;

/// Before all others that are attached there.
const BPF_F_BEFORE: u32 = 1 << 3;

/// Where a program is attached (`enum bpf_attach_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Hook {
    SockOps = 3,
    Connect4 = 10,
    Connect6 = 11,
    Sendmsg4 = 14,
    Sendmsg6 = 15,
    Recvmsg4 = 19,
    Recvmsg6 = 20,
    Getsockopt = 21,
    Setsockopt = 22,
    Getpeername4 = 29,
    Getpeername6 = 30,
    SkLookup = 36,
    TcxIngress = 46,
    TcxEgress = 47,
}

/// What a link is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// By the cgroup's identifier.
    Cgroup(u64),
    /// By the network namespace's inode number.
    Netns(u64),
    /// By the network interface's index in its namespace.
    Interface(u32),
    /// It is gone, or the link is of another kind.
    Nothing,
}

/// Attaches a program.
pub(super) fn link_create(program: BorrowedFd<'_>, target: BorrowedFd<'_>, hook: Hook) -> io::Result<OwnedFd> {
    create(program, number(target), hook, 0)
}

/// Attaches a program to an interface of the calling thread's network namespace, before all others that are there: one that lets a
/// packet pass for good must not keep it from those behind.
pub(super) fn link_create_on(program: BorrowedFd<'_>, interface: u32, hook: Hook) -> io::Result<OwnedFd> {
    create(program, interface, hook, BPF_F_BEFORE)
}

fn create(program: BorrowedFd<'_>, target: u32, hook: Hook, flags: u32) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attributes {
        program: u32,
        target: u32,
        hook: u32,
        flags: u32,
        rest: [u64; 6],
    }
    let attributes = Attributes {
        program: number(program),
        target,
        hook: hook as u32,
        flags,
        rest: [0; 6],
    };
    let fd = bpf(BPF_LINK_CREATE, &attributes)?;
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Attaches a program to a map of sockets, for those that come into it from now on, in the place of the one that is there. Stays
/// attached as long as the map is there.
pub(super) fn program_attach(program: BorrowedFd<'_>, map: BorrowedFd<'_>) -> io::Result<()> {
    let attributes = [number(map), number(program), BPF_SK_MSG_VERDICT, 0];
    bpf(BPF_PROG_ATTACH, &attributes).map(drop)
}

/// Brings the calling thread into a network namespace of its own, for good.
pub(super) fn leave_network() -> io::Result<()> {
    // SAFETY: changes this thread alone.
    match unsafe { libc::unshare(libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Puts another program in the place of the one that a link holds. No event is missed and none is seen by both.
pub(super) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let attributes = [number(link), number(program), 0, 0];
    bpf(BPF_LINK_UPDATE, &attributes).map(drop)
}

/// Detaches at once; letting a link go by itself takes effect some time later.
pub(super) fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    bpf(BPF_LINK_DETACH, &[number(link)]).map(drop)
}

/// What a link is attached to.
pub(super) fn link_target(link: BorrowedFd<'_>) -> io::Result<Target> {
    let info = info(link)?;
    let wide = u64::from(info.target[1]) << 32 | u64::from(info.target[0]);
    #[cfg(target_endian = "big")]
    let wide = wide.rotate_left(32);
    Ok(match info.kind {
        BPF_LINK_TYPE_CGROUP if wide != 0 => Target::Cgroup(wide),
        BPF_LINK_TYPE_NETNS if info.target[0] != 0 => Target::Netns(info.target[0].into()),
        BPF_LINK_TYPE_TCX if info.target[0] != 0 => Target::Interface(info.target[0]),
        _ => Target::Nothing,
    })
}

/// The identifier of a link, or of a map: which one it is, whatever descriptor or file names it.
pub(super) fn id(object: BorrowedFd<'_>) -> io::Result<u32> {
    Ok(info(object)?.head[0])
}

/// Removes an entry of a hash map whose keys are 64 bits wide, whatever its values are. One that is absent is no error.
pub(super) fn map_delete(map: BorrowedFd<'_>, key: u64) -> io::Result<()> {
    #[repr(C)]
    struct Attributes {
        map: u32,
        padding: u32,
        key: u64,
        value: u64,
        flags: u64,
    }
    let attributes = Attributes {
        map: number(map),
        padding: 0,
        key: std::ptr::from_ref(&key) as u64,
        value: 0,
        flags: 0,
    };
    match bpf(BPF_MAP_DELETE_ELEM, &attributes) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome.map(drop),
    }
}

/// The start of `struct bpf_link_info`: type, id, program id, padding, and a union that starts with the cgroup's identifier,
/// with the namespace's inode number, or with the interface's index. `struct bpf_map_info` starts with type and id, too.
#[repr(C, align(8))]
#[derive(Default)]
struct Info {
    kind: u32,
    head: [u32; 3],
    target: [u32; 2],
    rest: [u64; 12],
}

fn info(object: BorrowedFd<'_>) -> io::Result<Info> {
    #[repr(C)]
    struct Attributes {
        fd: u32,
        length: u32,
        info: u64,
    }
    let mut info = Info::default();
    let attributes = Attributes {
        fd: number(object),
        length: size_of::<Info>() as u32,
        info: std::ptr::from_mut(&mut info) as u64,
    };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &attributes)?;
    Ok(info)
}

/// Pins a link or map. The file must not exist.
pub(super) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    at_path(BPF_OBJ_PIN, path, number(object)).map(drop)
}

/// Opens what is pinned.
pub(super) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let fd = at_path(BPF_OBJ_GET, path, 0)?;
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn at_path(command: libc::c_int, path: &Path, fd: u32) -> io::Result<i32> {
    #[repr(C)]
    struct Attributes {
        path: u64,
        fd: u32,
        flags: u32,
    }
    let path = CString::new(path.as_os_str().as_bytes())?;
    bpf(
        command,
        &Attributes {
            path: path.as_ptr() as u64,
            fd,
            flags: 0,
        },
    )
}

/// `T` is the part of `union bpf_attr` that `command` reads; the kernel takes what lies behind it for zeros.
fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<i32> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes; addresses in them are of values that outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result as i32)
    }
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    // A borrowed descriptor is never negative.
    fd.as_raw_fd() as u32
}
