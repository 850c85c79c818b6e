//! Limits of an answer of which nothing can be sent.
//!
//! hyper asks a body for its next piece once there is room for it, so that the body of an answer that a client takes nothing of would not
//! hear that its time is over. Whoever drives the answer (the connection with HTTP/1, the stream with HTTP/2) hears it here instead.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
};

use parking_lot::Mutex;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{
    body::Upload,
    limits::{IDLE, Late, ROUTE, TimeLimits},
    silence::Moved,
};

tokio::task_local! {
    /// Of the task that drives answers.
    static CURRENT: Arc<Stall>;
}

/// What whoever drives answers knows of the one that is on its way.
#[derive(Debug)]
pub(crate) struct Stall {
    state: Mutex<State>,
    /// The client's connection. What hyper has of an answer may be much, and is taken piece by piece.
    moved: Arc<Moved>,
}

#[derive(Debug, Default)]
struct State {
    answer: Option<Limited>,
    /// When the last piece was given to hyper, which has not asked for another one; none while it waits for that.
    given: Option<Instant>,
    /// There are no more.
    is_over: bool,
    /// The limit that has passed meanwhile.
    passed: Option<Late>,
}

#[derive(Debug)]
struct Limited {
    limits: TimeLimits,
    /// The request.
    upload: Option<Upload>,
}

/// Drives answers over a connection until the end, or until one of them is cut: none, then.
pub(crate) async fn unless_stalled<F: Future>(moved: Arc<Moved>, driven: F) -> Option<F::Output> {
    let state = Mutex::default();
    let stall = Arc::new(Stall { state, moved });
    let own = Arc::clone(&stall);
    let watched = async move {
        let mut driven = pin!(driven);
        let mut timer = None;
        poll_fn(|context| match driven.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            // After it: what it was given in this turn counts.
            Poll::Pending => own.poll_passed(&mut timer, context).map(|()| None),
        })
        .await
    };
    CURRENT.scope(stall, watched).await
}

impl Stall {
    /// That of this task, which an answer begins in that must be over in time; none where it has any time, of which nobody needs to hear.
    pub(crate) fn begin(limits: &TimeLimits, upload: Option<&Upload>) -> Option<Arc<Self>> {
        if limits.whole.is_none() && limits.response.is_none() && limits.idle.is_none() {
            return None;
        }
        let stall = CURRENT.try_with(Arc::clone).ok()?;
        *stall.state.lock() = State {
            answer: Some(Limited {
                limits: limits.clone(),
                upload: upload.cloned(),
            }),
            ..State::default()
        };
        Some(stall)
    }

    /// hyper has a piece.
    pub(crate) fn given(&self, is_over: bool) {
        let mut state = self.state.lock();
        state.given = Some(Instant::now());
        state.is_over = is_over;
    }

    /// hyper waits for a piece: the body hears by itself what passes.
    pub(crate) fn asked(&self) {
        self.state.lock().given = None;
    }

    /// hyper has done with the answer. The limit for which it was cut, if it was.
    pub(crate) fn end(&self) -> Option<Late> {
        std::mem::take(&mut *self.state.lock()).passed
    }

    fn poll_passed(&self, timer: &mut Option<Pin<Box<Sleep>>>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        let Some((until, late)) = state.next(&self.moved, context) else {
            return Poll::Pending;
        };
        let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
        loop {
            if until < timer.deadline() {
                timer.as_mut().reset(until);
            }
            ready!(timer.as_mut().poll(context));
            if timer.deadline() >= until {
                break;
            }
            // Something was taken since it was set.
            timer.as_mut().reset(until);
        }
        state.passed = Some(late);
        Poll::Ready(())
    }
}

impl State {
    /// The limit that passes next while hyper asks for nothing.
    fn next(&self, connection: &Moved, context: &Context<'_>) -> Option<(Instant, Late)> {
        let (Some(given), Some(Limited { limits, upload })) = (self.given, &self.answer) else {
            return None;
        };
        let idle = limits.idle.map(|time| {
            let moved = upload.as_ref().map_or(given, |upload| upload.moved_at().max(given));
            (moved.max(connection.at()) + time, IDLE)
        });
        // What is left to be sent of an answer that is over may take its time, as with Envoy, but not stand still.
        if self.is_over {
            return idle;
        }
        let response = limits.response.and_then(|time| {
            let ended = match upload.as_ref()?.poll_ended(context) {
                Poll::Ready(ended) => ended,
                Poll::Pending => return None,
            };
            Some((ended.max(limits.from) + time, ROUTE))
        });
        let all = [limits.whole, response, idle].into_iter().flatten();
        all.min_by_key(|(until, _)| *until)
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, time::Duration};

    use tokio::io::AsyncWriteExt as _;

    use super::*;
    use crate::silence::Watched;

    const SECOND: Duration = Duration::from_secs(1);

    /// A connection over which nothing goes.
    fn still() -> Arc<Moved> {
        Watched::new(tokio::io::empty()).moved()
    }

    fn limits(whole: Option<Duration>, idle: Option<Duration>) -> TimeLimits {
        TimeLimits {
            response: None,
            from: Instant::now(),
            whole: whole.map(|time| (Instant::now() + time, ROUTE)),
            idle,
            request: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_cut_at_the_limit_while_nothing_of_it_is_asked_for() {
        let begun = Instant::now();
        let cut = unless_stalled(still(), async {
            let stall = Stall::begin(&limits(Some(3 * SECOND), None), None).unwrap();
            stall.given(false);
            pending::<()>().await;
        });
        assert_eq!(cut.await, None);
        assert_eq!(begun.elapsed(), 3 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_asked_for_puts_silence_off_and_a_body_that_waits_hears_by_itself() {
        let begun = Instant::now();
        let mut held = None;
        let cut = unless_stalled(still(), async {
            let stall = Stall::begin(&limits(None, Some(2 * SECOND)), None).unwrap();
            held = Some(Arc::clone(&stall));
            for _ in 0..3 {
                stall.given(false);
                tokio::time::sleep(SECOND).await;
            }
            stall.asked();
            tokio::time::sleep(5 * SECOND).await;
            stall.given(true);
            pending::<()>().await;
        });
        assert_eq!(cut.await, None);
        assert_eq!(begun.elapsed(), 10 * SECOND);
        assert_eq!(held.unwrap().end(), Some(IDLE));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_has_ended_leaves_nothing_to_the_next_one() {
        let done = unless_stalled(still(), async {
            let stall = Stall::begin(&limits(Some(SECOND), None), None).unwrap();
            stall.given(true);
            assert_eq!(stall.end(), None);
            tokio::time::sleep(5 * SECOND).await;
        });
        assert_eq!(done.await, Some(()));
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_slowly_what_hyper_has_is_not_silent() {
        let begun = Instant::now();
        let mut connection = Watched::new(tokio::io::sink());
        let cut = unless_stalled(connection.moved(), async {
            let stall = Stall::begin(&limits(None, Some(2 * SECOND)), None).unwrap();
            stall.given(false);
            for _ in 0..4 {
                tokio::time::sleep(SECOND).await;
                connection.write_all(b"some").await.unwrap();
            }
            pending::<()>().await;
        });
        assert_eq!(cut.await, None);
        assert_eq!(begun.elapsed(), 6 * SECOND);
    }
}
