//! Pool: runs the morsels of queries on whatever threads the server lends it.
//!
//! A query submits a *job* of `count` morsels and works on it itself; idle workers take *tickets* of jobs. A ticket
//! is good for one morsel at a time and then goes to the back of its worker's queue, behind the tickets of other
//! queries: that is the fairness between a heavy query and a light one. Workers steal tickets from each other.
//!
//! Invariants:
//! * Which morsel runs where never shows: results are returned by morsel number.
//! * A panic in a morsel fails its query only.
//! * A pool without workers runs everything on the submitting thread.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};

use crossbeam::deque::{Injector, Steal, Stealer, Worker};

use crate::error::Error;

/// Shared by all queries and workers; clones are the same pool.
#[derive(Clone, Default)]
pub struct Pool(Arc<Shared>);

#[derive(Default)]
struct Shared {
    injector: Injector<Arc<Job>>,
    stealers: RwLock<Vec<Stealer<Arc<Job>>>>,
    workers: AtomicUsize,
    /// Counts submissions; workers sleep on it.
    submissions: Mutex<u64>,
    submitted: Condvar,
}

/// One submission.
struct Job {
    run: Box<dyn Fn(usize) + Send + Sync>,
    count: usize,
    next: AtomicUsize,
    finished: Mutex<usize>,
    done: Condvar,
}

/// What a morsel has answered.
type Slot<T> = Mutex<Option<Result<T, Error>>>;

/// The data behind our locks is whole even if a holder panicked: they are held for single assignments.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Job {
    /// Runs one morsel; `false` when none was left.
    fn turn(&self) -> bool {
        // Relaxed: the number alone is handed out; results travel through their own mutexes.
        let morsel = self.next.fetch_add(1, Ordering::Relaxed);
        if morsel >= self.count {
            return false;
        }
        (self.run)(morsel);
        let mut finished = lock(&self.finished);
        *finished += 1;
        if *finished == self.count {
            self.done.notify_all();
        }
        true
    }
}

impl Pool {
    /// A pool without workers.
    pub fn new() -> Pool {
        Pool::default()
    }

    /// The loop of a worker thread: runs morsels until `stop` is set and [`Pool::wake_all`] was called.
    pub fn worker(&self, stop: &AtomicBool) {
        let queue = Worker::new_fifo();
        self.0.stealers.write().unwrap_or_else(PoisonError::into_inner).push(queue.stealer());
        self.0.workers.fetch_add(1, Ordering::SeqCst);
        let mut seen = 0;
        while !stop.load(Ordering::SeqCst) {
            match self.next_ticket(&queue) {
                Some(job) => {
                    if job.turn() {
                        queue.push(job);
                    }
                }
                None => {
                    let mut submissions = lock(&self.0.submissions);
                    while *submissions == seen && !stop.load(Ordering::SeqCst) {
                        submissions = self.0.submitted.wait(submissions).unwrap_or_else(PoisonError::into_inner);
                    }
                    seen = *submissions;
                }
            }
        }
        self.0.workers.fetch_sub(1, Ordering::SeqCst);
        // Tickets left behind are copies: the submitters finish their jobs themselves.
    }

    /// Wakes all workers, so that they see that they should stop.
    pub fn wake_all(&self) {
        *lock(&self.0.submissions) += 1;
        self.0.submitted.notify_all();
    }

    /// New tickets first, so that a light query does not wait behind the morsels of a heavy one.
    fn next_ticket(&self, queue: &Worker<Arc<Job>>) -> Option<Arc<Job>> {
        loop {
            match self.0.injector.steal() {
                Steal::Success(job) => return Some(job),
                Steal::Retry => continue,
                Steal::Empty => {}
            }
            if let Some(job) = queue.pop() {
                return Some(job);
            }
            let stealers = self.0.stealers.read().unwrap_or_else(PoisonError::into_inner);
            let mut retry = false;
            for stealer in stealers.iter() {
                match stealer.steal() {
                    Steal::Success(job) => return Some(job),
                    Steal::Retry => retry = true,
                    Steal::Empty => {}
                }
            }
            if !retry {
                return None;
            }
        }
    }

    /// Runs `work` for each morsel of `0..count` and returns what they answered, in order of morsels. After an error
    /// the morsels not yet begun are skipped; the error of the first failed morsel is returned.
    pub fn map<T: Send + 'static>(
        &self,
        count: usize,
        work: impl Fn(usize) -> Result<T, Error> + Send + Sync + 'static,
    ) -> Result<Vec<T>, Error> {
        let slots: Arc<Vec<Slot<T>>> = Arc::new((0..count).map(|_| Mutex::new(None)).collect());
        let failed = Arc::new(AtomicBool::new(false));
        let run = {
            let slots = Arc::clone(&slots);
            let failed = Arc::clone(&failed);
            move |morsel: usize| {
                if failed.load(Ordering::Relaxed) {
                    return;
                }
                let result = match catch_unwind(AssertUnwindSafe(|| work(morsel))) {
                    Ok(result) => result,
                    Err(panic) => Err(panicked(panic.as_ref())),
                };
                if result.is_err() {
                    failed.store(true, Ordering::Relaxed);
                }
                if let Some(slot) = slots.get(morsel) {
                    *lock(slot) = Some(result);
                }
            }
        };
        let job = Arc::new(Job {
            run: Box::new(run),
            count,
            next: AtomicUsize::new(0),
            finished: Mutex::new(0),
            done: Condvar::new(),
        });
        let helpers = self.0.workers.load(Ordering::SeqCst).min(count.saturating_sub(1));
        if helpers > 0 {
            for _ in 0..helpers {
                self.0.injector.push(Arc::clone(&job));
            }
            self.wake_all();
        }
        while job.turn() {}
        let mut finished = lock(&job.finished);
        while *finished < count {
            finished = job.done.wait(finished).unwrap_or_else(PoisonError::into_inner);
        }
        drop(finished);
        let mut results = Vec::with_capacity(count);
        let mut first_error = None;
        for slot in slots.iter() {
            match lock(slot).take() {
                Some(Ok(result)) => results.push(result),
                Some(Err(error)) => {
                    first_error.get_or_insert(error);
                }
                None => {}
            }
        }
        match first_error {
            Some(error) => Err(error),
            None => {
                assert_eq!(results.len(), count, "every morsel has answered");
                Ok(results)
            }
        }
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Error {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    Error::Storage(format!("query evaluation panicked: {text}"))
}

/// Runs `work` so that a panic becomes an error of its query.
pub(crate) fn guard<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result,
        Err(panic) => Err(panicked(panic.as_ref())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_workers_the_submitter_does_it_all() {
        assert_eq!(Pool::new().map(5, |n| Ok(n * n)).unwrap(), [0, 1, 4, 9, 16]);
        assert_eq!(Pool::new().map(0, Ok).unwrap(), [0; 0]);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test of what happens across threads")]
    fn workers_help_and_stop() {
        let pool = Pool::new();
        let stop = Arc::new(AtomicBool::new(false));
        let workers: Vec<_> = (0..3)
            .map(|_| {
                let (pool, stop) = (pool.clone(), Arc::clone(&stop));
                std::thread::spawn(move || pool.worker(&stop))
            })
            .collect();
        let askers: Vec<_> = (0..4)
            .map(|asker| {
                let pool = pool.clone();
                std::thread::spawn(move || {
                    for round in 0..50 {
                        let results = pool.map(round, move |n| Ok(n + asker)).unwrap();
                        assert!(results.iter().enumerate().all(|(n, r)| *r == n + asker));
                    }
                })
            })
            .collect();
        for asker in askers {
            asker.join().unwrap();
        }
        stop.store(true, Ordering::SeqCst);
        pool.wake_all();
        for worker in workers {
            worker.join().unwrap();
        }
    }

    #[test]
    fn a_panic_fails_its_query_only() {
        let pool = Pool::new();
        let failed = pool.map(3, |n| if n == 1 { panic!("boom {n}") } else { Ok(n) });
        assert!(matches!(failed, Err(Error::Storage(text)) if text.contains("boom 1")));
        assert_eq!(pool.map(2, Ok).unwrap(), [0, 1]);
    }
}
