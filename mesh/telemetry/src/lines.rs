//! Lines of access logs whose form the configuration says, on their way out.

use std::io::{self, Write as _};

use crate::buffer::LineBuffer;

/// Takes lines for both outputs, and hands them to threads that write them: nobody waits for a reader of the log. Clones share them.
#[derive(Clone, Debug)]
pub struct AccessLines {
    stdout: LineBuffer,
    stderr: LineBuffer,
}

impl AccessLines {
    /// Starts the threads.
    ///
    /// # Errors
    /// When one does not start.
    pub fn spawn() -> io::Result<Self> {
        Self::beside(LineBuffer::spawn(io::stderr())?)
    }

    /// Beside others' lines on the standard error.
    pub(crate) fn beside(stderr: LineBuffer) -> io::Result<Self> {
        let stdout = LineBuffer::spawn(io::stdout())?;
        Ok(Self { stdout, stderr })
    }

    /// Takes a line, with its end, for the standard output.
    pub fn stdout(&self, line: &str) {
        // A buffer always takes it, or counts it as dropped.
        let _ = self.stdout.clone().write(line.as_bytes());
    }

    /// The same for the standard error.
    pub fn stderr(&self, line: &str) {
        let _ = self.stderr.clone().write(line.as_bytes());
    }

    /// Waits until all have been written.
    pub fn flush(&self) {
        LineBuffer::flush(&self.stdout);
        LineBuffer::flush(&self.stderr);
    }
}
