//! Answers to `play`, kept for a time: a viewer makes many requests, and a thousand viewers with one token come at once. Whoever comes
//! while a question is on its way waits for the same answer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;

use super::Verdict;

/// By whom and what, hashed.
#[derive(Debug, Default)]
pub(super) struct Verdicts(Mutex<HashMap<[u8; 32], Asked>>);

#[derive(Debug, Clone)]
struct Asked {
    since: Instant,
    verdict: Arc<OnceCell<Verdict>>,
}

impl Asked {
    fn holds(&self, cache: Duration) -> bool {
        let cache = match self.verdict.get() {
            Some(Verdict::Down(_)) => cache.min(DOWN_CACHE),
            _ => cache,
        };
        self.since.elapsed() < cache
    }
}

impl Verdicts {
    /// The answer that was given within `cache`, or the one to a new question.
    pub(super) async fn get(
        &self,
        key: [u8; 32],
        cache: Duration,
        ask: impl Future<Output = Verdict>,
    ) -> Verdict {
        let asked = {
            let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match table.get(&key).filter(|asked| asked.holds(cache)) {
                Some(asked) => asked.clone(),
                None => {
                    if table.len() >= MAX_KEPT {
                        table.retain(|_, asked| asked.holds(cache));
                    }
                    if table.len() >= MAX_KEPT {
                        table.clear();
                    }
                    let asked = Asked {
                        since: Instant::now(),
                        verdict: Arc::default(),
                    };
                    table.insert(key, asked.clone());
                    asked
                }
            }
        };
        asked.verdict.get_or_init(|| ask).await.clone()
    }

    pub(super) fn clear(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

/// Answers that are kept, some 200 bytes each.
const MAX_KEPT: usize = 50_000;
/// How soon a service that did not answer is asked again.
const DOWN_CACHE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn one_question_for_many() {
        let (verdicts, asked) = (Arc::new(Verdicts::default()), Arc::new(AtomicU32::new(0)));
        let mut tasks = Vec::new();
        for _ in 0..100 {
            let (verdicts, asked) = (Arc::clone(&verdicts), Arc::clone(&asked));
            tasks.push(tokio::spawn(async move {
                let ask = async {
                    asked.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                    Verdict::Deny(None)
                };
                verdicts.get([1; 32], Duration::from_secs(60), ask).await
            }));
        }
        for task in tasks {
            assert_eq!(task.await.unwrap(), Verdict::Deny(None));
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        // Another one is another question, and so is the same one later.
        for (key, cache) in [
            ([2; 32], Duration::from_secs(60)),
            ([1; 32], Duration::ZERO),
        ] {
            let verdict = verdicts
                .get(key, cache, async { Verdict::Down(String::new()) })
                .await;
            assert_eq!(verdict, Verdict::Down(String::new()));
        }
    }
}
