//! Taking the samples.
//!
//! The handler of a signal may interrupt anything, an allocation for example. So it takes no lock and no memory: it writes
//! into a buffer that was made before, and unwinds by tables that glibc (since 2.35, `_dl_find_object`) finds without a lock.

use std::{
    io, mem, ptr,
    sync::atomic::{
        AtomicBool, AtomicPtr, AtomicU64, AtomicUsize,
        Ordering::{Relaxed, SeqCst},
    },
    time::{Duration, Instant, SystemTime},
};

use crate::{ProfileError, RATE, Samples};

/// Frames of a stack that are kept, from the innermost.
const DEPTH: usize = 64;

/// Stacks that are kept at most: some 10 MB.
const MOST: usize = 20_000;

/// Where the handler writes; null while nobody samples.
static BUFFER: AtomicPtr<Buffer> = AtomicPtr::new(ptr::null_mut());

/// Handlers that may be looking at the buffer.
static INSIDE: AtomicUsize = AtomicUsize::new(0);

/// A profile is being taken.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Stacks as they come.
struct Buffer {
    next: AtomicUsize,
    lost: AtomicU64,
    stacks: Box<[Stack]>,
}

/// Addresses, innermost first, and zeros behind them.
struct Stack([AtomicUsize; DEPTH]);

/// A profile that is being taken. Dropped, it is given up.
#[derive(Debug)]
pub struct Sampling {
    began: SystemTime,
    began_at: Instant,
}

impl Sampling {
    /// Begins. `longest` is how long it may go on at most; what comes later may be lost.
    ///
    /// # Errors
    /// When a profile is being taken already, or the kernel refuses.
    pub fn start(longest: Duration) -> Result<Self, ProfileError> {
        if TAKEN.swap(true, SeqCst) {
            return Err(ProfileError::Busy);
        }
        // From here on, dropping it gives everything back.
        let sampling = Self {
            began: SystemTime::now(),
            began_at: Instant::now(),
        };
        // The first walk binds the unwinder's symbols, which is no work for a handler.
        backtrace::trace(|_| true);
        BUFFER.store(Box::into_raw(Box::new(Buffer::new(longest))), SeqCst);
        handle_signal()?;
        set_timer(RATE)?;
        Ok(sampling)
    }

    /// How many stacks there are so far.
    #[cfg(test)]
    pub(crate) fn seen(&self) -> usize {
        // SAFETY: the buffer is given back by `finish` and `drop` alone, and neither runs while this is borrowed.
        let buffer = unsafe { BUFFER.load(SeqCst).as_ref() };
        buffer.map_or(0, |buffer| buffer.next.load(SeqCst))
    }

    /// Ends, with what was seen.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn finish(self) -> Result<Samples, ProfileError> {
        set_timer(0)?;
        let buffer = take_buffer();
        let stacks = buffer.iter().flat_map(|buffer| buffer.stacks()).collect();
        let lost = buffer.as_ref().map_or(0, |buffer| buffer.lost.load(Relaxed));
        Ok(Samples::new(stacks, lost, self.began, self.began_at.elapsed()))
    }
}

impl Drop for Sampling {
    fn drop(&mut self) {
        // A timer that goes on finds no buffer.
        let _ = set_timer(0);
        drop(take_buffer());
        TAKEN.store(false, SeqCst);
    }
}

impl Buffer {
    fn new(longest: Duration) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let expected = (longest.as_secs() as usize + 1) * RATE as usize * processors;
        let stack = || Stack([const { AtomicUsize::new(0) }; DEPTH]);
        Self {
            next: AtomicUsize::new(0),
            lost: AtomicU64::new(0),
            stacks: (0..expected.min(MOST)).map(|_| stack()).collect(),
        }
    }

    /// In the handler: keeps the stack of this thread, which was interrupted at `at`.
    fn keep(&self, at: usize) {
        let Some(Stack(frames)) = self.stacks.get(self.next.fetch_add(1, Relaxed)) else {
            self.lost.fetch_add(1, Relaxed);
            return;
        };
        frames[0].store(at, Relaxed);
        let (mut depth, mut is_ours) = (1, true);
        let each = |frame: &backtrace::Frame| {
            let address = frame.ip() as usize;
            if is_ours {
                // The handler's own frames stand before the one that was interrupted.
                is_ours = address != at;
                return true;
            }
            frames[depth].store(address, Relaxed);
            depth += 1;
            depth < DEPTH
        };
        // SAFETY: the function is unsafe because concurrent calls must not share the symbol cache of some platforms. On Linux
        // it walks this thread's stack with libgcc's unwinder, which shares nothing between threads.
        unsafe { backtrace::trace_unsynchronized(each) };
    }

    /// The stacks that are there, each innermost first.
    fn stacks(&self) -> impl Iterator<Item = Vec<usize>> {
        let filled = self.next.load(Relaxed).min(self.stacks.len());
        self.stacks[..filled].iter().map(|Stack(frames)| {
            let frames = frames.iter().map(|frame| frame.load(Relaxed));
            frames.take_while(|address| *address != 0).collect()
        })
    }
}

/// Takes the buffer away from the handler, once nobody looks at it any more.
fn take_buffer() -> Option<Box<Buffer>> {
    let buffer = BUFFER.swap(ptr::null_mut(), SeqCst);
    while INSIDE.load(SeqCst) > 0 {
        // Handlers take microseconds.
        std::thread::yield_now();
    }
    if buffer.is_null() {
        return None;
    }
    // SAFETY: it came out of `Box::into_raw` in `start`, and the swap has given it to us alone. A handler that could have loaded
    // it before the swap had entered `INSIDE` before that, and has left it since.
    Some(unsafe { Box::from_raw(buffer) })
}

/// Puts the handler in its place, where it stays: a late signal without one would end the process.
fn handle_signal() -> Result<(), ProfileError> {
    // SAFETY: all zeros is a valid sigaction, and `sigemptyset` writes into it alone.
    let action = unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        libc::sigemptyset(&raw mut action.sa_mask);
        action.sa_sigaction = on_signal as *const () as libc::sighandler_t;
        // On the thread's own stack: the one that Rust keeps for signals has hardly room for the unwinder.
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
        action
    };
    // SAFETY: the action lives for the call, and its handler does nothing that a handler must not do.
    match unsafe { libc::sigaction(libc::SIGPROF, &raw const action, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(system("handle SIGPROF")),
    }
}

/// Sends SIGPROF so many times a second of processor time; 0 stops.
fn set_timer(rate: u32) -> Result<(), ProfileError> {
    let every = libc::timeval {
        tv_sec: 0,
        tv_usec: 1_000_000_i64.checked_div(rate.into()).unwrap_or(0),
    };
    let timer = libc::itimerval {
        it_interval: every,
        it_value: every,
    };
    // SAFETY: the timer lives for the call.
    match unsafe { libc::setitimer(libc::ITIMER_PROF, &raw const timer, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(system("set a timer")),
    }
}

fn system(what: &'static str) -> ProfileError {
    ProfileError::System {
        what,
        source: io::Error::last_os_error(),
    }
}

/// The handler.
extern "C" fn on_signal(_signal: libc::c_int, _info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: returns the address of this thread's errno, which what was interrupted may still want to read.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let before = unsafe { *errno };
    INSIDE.fetch_add(1, SeqCst);
    // SAFETY: null, or a buffer that is not given back while `INSIDE` is not zero: see `take_buffer`.
    if let Some(buffer) = unsafe { BUFFER.load(SeqCst).as_ref() } {
        buffer.keep(interrupted_at(context));
    }
    INSIDE.fetch_sub(1, SeqCst);
    // SAFETY: as above.
    unsafe { *errno = before };
}

/// The address of the instruction that would have been next.
fn interrupted_at(context: *mut libc::c_void) -> usize {
    // SAFETY: with SA_SIGINFO, the kernel gives the handler a valid ucontext as third argument (sigaction(2)).
    let context = unsafe { &*context.cast::<libc::ucontext_t>() };
    #[cfg(target_arch = "x86_64")]
    let at = context.uc_mcontext.gregs[libc::REG_RIP as usize];
    #[cfg(target_arch = "aarch64")]
    let at = context.uc_mcontext.pc;
    at as usize
}
