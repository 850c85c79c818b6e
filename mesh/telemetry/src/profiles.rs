//! The pages below `/debug/pprof/`, which `go tool pprof` asks by their addresses.

use std::time::Duration;

use bytes::Bytes;
use culvert_profile::{LONGEST, ProfileError, Sampling};
use http::StatusCode;

use crate::routes::{Request, Response, Routes};

/// How long is sampled where the request does not say.
const SECONDS: u64 = 30;

/// How long names may take to be found.
const HEAP_TIME: Duration = Duration::from_secs(30);

const NO_HEAP: &str = "there is no heap profile: this program's allocator takes no samples\n";

impl Routes {
    /// Adds, on loopback alone and in pprof's format, `/debug/pprof/profile?seconds=N`: what the process does with its processor time, for 1 to
    /// 60 seconds; and `/debug/pprof/heap`: what it holds in memory by now.
    #[must_use]
    pub fn profiles(self) -> Self {
        self.get_local_slow("/debug/pprof/profile", LONGEST, profile)
            .get_local_slow("/debug/pprof/heap", HEAP_TIME, |_| heap())
    }
}

async fn heap() -> Response {
    match culvert_profile::heap::held() {
        Some(held) => encoded(move || held.encode()).await,
        None => Response::status(StatusCode::NOT_IMPLEMENTED, NO_HEAP),
    }
}

async fn profile(request: Request) -> Response {
    let time = match seconds(request.parameter("seconds").as_deref()) {
        Ok(time) => time,
        Err(wrong) => return Response::status(StatusCode::BAD_REQUEST, wrong),
    };
    let sampling = match Sampling::start(time) {
        Ok(sampling) => sampling,
        Err(error) => return failed(&error),
    };
    tracing::info!(seconds = time.as_secs(), "a CPU profile is being taken");
    // A client that goes away drops this future, and with it the profile.
    tokio::time::sleep(time).await;
    match sampling.finish() {
        Ok(samples) => encoded(move || samples.encode()).await,
        Err(error) => failed(&error),
    }
}

/// Names are looked up on a thread of its own: the one that serves pages may have other things to do.
async fn encoded(encode: impl FnOnce() -> Result<Vec<u8>, ProfileError> + Send + 'static) -> Response {
    match tokio::task::spawn_blocking(encode).await {
        Ok(Ok(profile)) => Response::shared("application/octet-stream", Bytes::from(profile)),
        Ok(Err(error)) => failed(&error),
        Err(error) => Response::status(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn failed(error: &ProfileError) -> Response {
    let status = match error {
        ProfileError::Busy => StatusCode::CONFLICT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    Response::status(status, format!("{error}{}\n", cause.unwrap_or_default()))
}

fn seconds(text: Option<&str>) -> Result<Duration, String> {
    let Some(text) = text else {
        return Ok(Duration::from_secs(SECONDS));
    };
    let longest = LONGEST.as_secs();
    match text.parse() {
        Ok(seconds) if (1..=longest).contains(&seconds) => Ok(Duration::from_secs(seconds)),
        _ => Err(format!("seconds={text}: a number from 1 to {longest} is needed\n")),
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    async fn ask(page: &str) -> Response {
        Routes::new().profiles().answer(Request::new(Method::GET, page)).await
    }

    #[tokio::test]
    async fn a_profile_is_given_one_at_a_time_and_for_a_bounded_time() {
        for wrong in ["0", "61", "-1", "x", "", "99999999999999999999999"] {
            let answer = ask(&format!("/debug/pprof/profile?seconds={wrong}")).await;
            assert_eq!(answer.code(), StatusCode::BAD_REQUEST, "{wrong}");
            assert!(String::from_utf8_lossy(answer.body()).contains("from 1 to 60"));
        }
        let first = tokio::spawn(ask("/debug/pprof/profile?seconds=1"));
        // It has begun when another is refused.
        let refused = loop {
            let other = tokio::spawn(ask("/debug/pprof/profile?seconds=60"));
            tokio::task::yield_now().await;
            match other.is_finished() {
                true => break other.await.unwrap(),
                false => other.abort(),
            }
        };
        assert_eq!(refused.code(), StatusCode::CONFLICT);
        assert!(String::from_utf8_lossy(refused.body()).contains("another profile"));
        let profile = first.await.unwrap();
        assert_eq!(profile.code(), StatusCode::OK);
        assert_eq!(profile.body()[..2], [0x1f, 0x8b], "gzip");
    }

    #[tokio::test]
    async fn a_heap_profile_of_a_program_whose_allocator_takes_no_samples_is_refused_with_the_reason() {
        let answer = ask("/debug/pprof/heap").await;
        assert_eq!(answer.code(), StatusCode::NOT_IMPLEMENTED);
        assert!(String::from_utf8_lossy(answer.body()).contains("allocator takes no samples"));
    }
}
