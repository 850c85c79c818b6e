//! Many requests at once, within a bound.

use futures_util::stream::{self, StreamExt};

/// How many questions are under way at once: enough that a thousand nodes take seconds, and few enough that the API
/// server, through which they all go, does not notice.
const AT_ONCE: usize = 24;

/// Asks about each item, and gives the answers in the items' order. Each question must have a time limit of its own.
pub(crate) async fn for_each_limited<T, F, Answer>(
    items: impl IntoIterator<Item = T>,
    question: impl Fn(T) -> F,
) -> Vec<Answer>
where
    F: Future<Output = Answer>,
{
    stream::iter(items).map(question).buffered(AT_ONCE).collect().await
}

#[cfg(test)]
mod tests {
    use super::{AT_ONCE, for_each_limited};
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn answers_keep_their_order_and_questions_stay_within_the_bound() {
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let answers = for_each_limited(0..200, |number| {
            let (now, most) = (&now, &most);
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                now.fetch_sub(1, Ordering::Relaxed);
                number
            }
        })
        .await;
        assert_eq!(answers, (0..200).collect::<Vec<_>>());
        assert!(most.load(Ordering::Relaxed) <= AT_ONCE);
    }
}
