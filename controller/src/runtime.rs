//! The threads that the controller runs on.

use std::io;
use std::thread;

use tokio::runtime::{Builder, Runtime};

/// A worker for every two processors. A change wakes a few streams for some microseconds each: with as many workers as processors each
/// wakes the others to share that, which costs more than it is.
///
/// # Errors
/// When a thread does not start.
pub fn runtime() -> io::Result<Runtime> {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    Builder::new_multi_thread()
        .worker_threads(processors.div_ceil(2))
        .enable_all()
        .build()
}
