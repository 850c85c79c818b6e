//! How long nothing has moved.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

/// Silence of an answer. Most answers are there before anybody has to wait for them, so there is a timer only once somebody does, and what
/// comes moves no timer.
#[derive(Debug)]
pub(crate) struct Silence {
    timeout: Duration,
    since: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Silence {
    /// It begins now.
    pub(crate) fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            since: Instant::now(),
            timer: None,
        }
    }

    /// Something came.
    pub(crate) fn broken(&mut self) {
        self.since = Instant::now();
    }

    /// Ready once it was silent for too long; `moved` is when something moved elsewhere.
    pub(crate) fn poll(&mut self, moved: Option<Instant>, context: &mut Context<'_>) -> Poll<()> {
        let until = moved.map_or(self.since, |moved| moved.max(self.since)) + self.timeout;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
        loop {
            ready!(timer.as_mut().poll(context));
            if timer.deadline() >= until {
                return Poll::Ready(());
            }
            // Something came since it was set.
            timer.as_mut().reset(until);
        }
    }
}

/// Waits until what says when something last moved has said nothing new for so long; for ever without a time.
pub(crate) async fn silent(timeout: Option<Duration>, moved: impl Fn() -> Instant) {
    let Some(timeout) = timeout else {
        return std::future::pending().await;
    };
    loop {
        let until = moved() + timeout;
        if until <= Instant::now() {
            return;
        }
        sleep_until(until).await;
    }
}

/// When bytes last moved, and how many did.
#[derive(Debug)]
pub(crate) struct Moved {
    begun: Instant,
    /// Nanoseconds after that.
    last: AtomicU64,
    read: AtomicU64,
    written: AtomicU64,
}

impl Moved {
    fn new() -> Self {
        Self {
            begun: Instant::now(),
            last: AtomicU64::new(0),
            read: AtomicU64::new(0),
            written: AtomicU64::new(0),
        }
    }

    /// The moment.
    pub(crate) fn at(&self) -> Instant {
        self.begun + Duration::from_nanos(self.last.load(Ordering::Relaxed))
    }

    /// How many were read and written.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (self.read.load(Ordering::Relaxed), self.written.load(Ordering::Relaxed))
    }

    fn count(&self, read: usize, written: usize) {
        self.read.fetch_add(read as u64, Ordering::Relaxed);
        self.written.fetch_add(written as u64, Ordering::Relaxed);
        let passed = u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.last.store(passed, Ordering::Relaxed);
    }
}

/// A connection of which it is known when bytes last moved.
pub(crate) struct Watched<S> {
    stream: S,
    moved: Arc<Moved>,
}

impl<S> Watched<S> {
    /// Nothing has moved since now.
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            moved: Arc::new(Moved::new()),
        }
    }

    /// When something did.
    pub(crate) fn moved(&self) -> Arc<Moved> {
        Arc::clone(&self.moved)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.moved.count(buffer.filled().len() - before, 0);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, data))?;
        self.moved.count(0, written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, slices))?;
        self.moved.count(0, written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silence_ends_exactly_so_long_after_the_last_byte() {
        let moved = Moved::new();
        let begun = Instant::now();
        let busy = async {
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_secs(4)).await;
                moved.count(1, 0);
            }
        };
        let ended = silent(Some(Duration::from_secs(5)), || moved.at());
        tokio::join!(busy, ended);
        assert_eq!(begun.elapsed().as_secs(), 17);
    }
}
