//! Log lines that are written by somebody else, later.

use std::{
    io, mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// Lines that wait beyond this many bytes are dropped and counted: the reader of the log has stopped reading.
const LIMIT: usize = 8 << 20;

/// Memory for lines that is kept for the next ones; what a burst needed beyond it is given back.
const KEEP: usize = 64 << 10;

/// How long lines gather where many come. Waking the thread for each batch of few costs more than all else about a line.
const GATHER: Duration = Duration::from_millis(5);

/// So many bytes do not wait for others.
const ENOUGH: usize = KEEP / 2;

/// Takes lines and hands them to a thread that writes them. A writer waits for no I/O, only for other writers' copies.
///
/// A line that comes alone is written at once. Where the next follow within [`GATHER`], the thread writes once in that time.
#[derive(Clone, Debug)]
pub(crate) struct LineBuffer {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    dropped: u64,
    /// The thread will look again by itself.
    writing: bool,
    /// Somebody waits until all is written.
    hurried: bool,
}

impl LineBuffer {
    /// Starts the thread.
    pub(crate) fn spawn(mut output: impl io::Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || theirs.run(&mut output))?;
        Ok(Self { shared })
    }

    /// Waits until everything that was taken in has been written.
    pub(crate) fn flush(&self) {
        let mut state = self.shared.lock();
        while state.writing || !state.waiting.is_empty() {
            state.hurried = true;
            self.shared.changed.notify_all();
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl io::Write for LineBuffer {
    /// One call is one line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut state = self.shared.lock();
        if state.waiting.len() + line.len() > LIMIT {
            state.dropped += 1;
            return Ok(line.len());
        }
        let idle = state.waiting.is_empty() && !state.writing;
        let before = state.waiting.len();
        state.waiting.extend_from_slice(line);
        let enough = before < ENOUGH && state.waiting.len() >= ENOUGH;
        drop(state);
        if idle || enough {
            self.shared.changed.notify_all();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn run(&self, output: &mut impl io::Write) {
        let mut lines = Vec::new();
        let mut written: Option<Instant> = None;
        let mut many = false;
        loop {
            let mut state = self.lock();
            if many {
                let alone = |state: &mut State| !state.hurried && state.waiting.len() < ENOUGH;
                let gathered = self.changed.wait_timeout_while(state, GATHER, alone);
                (state, _) = gathered.unwrap_or_else(PoisonError::into_inner);
            }
            if state.waiting.is_empty() {
                state.writing = false;
                state.hurried = false;
                self.changed.notify_all();
                while state.waiting.is_empty() {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
            state.writing = true;
            lines.clear();
            mem::swap(&mut lines, &mut state.waiting);
            let dropped = mem::take(&mut state.dropped);
            drop(state);
            // A log that cannot be written has nowhere to say so.
            let _ = output.write_all(&lines);
            if dropped > 0 {
                let _ = writeln!(
                    output,
                    "{dropped} access log lines were dropped: the log is read too slowly"
                );
            }
            let _ = output.flush();
            let now = Instant::now();
            many = written.replace(now).is_some_and(|before| now - before < 2 * GATHER);
            if lines.capacity() > KEEP {
                lines = Vec::new();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::sink::Sink;

    #[test]
    fn what_a_burst_of_lines_needed_is_given_back_once_they_are_written() {
        let sink = Sink::default();
        let mut buffer = LineBuffer::spawn(sink.clone()).unwrap();
        let line = [b'.'; 1000];
        for _ in 0..4000 {
            buffer.write_all(&line).unwrap();
        }
        // The two buffers take turns, so that both have been seen by the thread after two more lines.
        for _ in 0..2 {
            LineBuffer::flush(&buffer);
            buffer.write_all(b"x").unwrap();
        }
        LineBuffer::flush(&buffer);
        assert!(sink.written().len() > 2 * KEEP);
        assert!(buffer.shared.lock().waiting.capacity() <= KEEP);
    }

    /// Each wake-up of the thread is two switches of a processor, which a node with thousands of connections a second would feel.
    #[test]
    fn lines_that_come_one_after_the_other_are_written_together_and_none_is_left() {
        #[derive(Clone, Default)]
        struct Counted(Arc<Mutex<(usize, Vec<u8>)>>);
        impl io::Write for Counted {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let mut state = self.0.lock().unwrap();
                state.0 += 1;
                state.1.extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let output = Counted::default();
        let mut buffer = LineBuffer::spawn(output.clone()).unwrap();
        let lines = 2000;
        let began = Instant::now();
        for _ in 0..lines {
            buffer.write_all(b"a line\n").unwrap();
            let written = Instant::now();
            while written.elapsed() < Duration::from_micros(50) {
                std::hint::spin_loop();
            }
        }
        // Nobody asks for it, and all of it is written all the same.
        while output.0.lock().unwrap().1.len() < lines * 7 {
            thread::yield_now();
        }
        // However slow the machine: one write for each time that they gather, besides a few where the thread was late.
        let most = began.elapsed().as_millis() as usize / 4 + 20;
        let writes = output.0.lock().unwrap().0;
        assert!(writes < most, "{writes} writes for {lines} lines, {most} at most");
    }

    #[test]
    fn who_waits_for_lines_to_be_written_does_not_wait_for_others() {
        let sink = Sink::default();
        let mut buffer = LineBuffer::spawn(sink.clone()).unwrap();
        for number in 0..200 {
            buffer.write_all(b"x").unwrap();
            LineBuffer::flush(&buffer);
            assert_eq!(sink.written().len(), number + 1);
        }
    }

    #[test]
    fn every_line_is_written_whole_and_in_order() {
        let sink = Sink::default();
        let mut buffer = LineBuffer::spawn(sink.clone()).unwrap();
        let mut expected = String::new();
        for number in 0..1000 {
            let line = format!("line {number}\n");
            buffer.write_all(line.as_bytes()).unwrap();
            expected.push_str(&line);
        }
        LineBuffer::flush(&buffer);
        assert_eq!(String::from_utf8(sink.written().clone()).unwrap(), expected);
    }
}
