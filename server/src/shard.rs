//! The queue of a shard and the loop of its thread: drain what waits, one turn (one sync) for all of it, answer each.
//!
//! The queue is bounded in bytes and in writes; a full queue refuses at once, so that a slow disk becomes 503 at the
//! client instead of memory here. The answer to a write is sent after its batch was let go, so that the sender of the
//! answer finds the batch free for reuse.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use tokio::sync::oneshot;
use varve_engine::{Applied, DeletionSpec, Error, Shard, Write};
use varve_model::{Millis, TenantId};

/// Writes taken into one turn, in bytes of their requests.
const TURN_BYTES: u64 = 4 << 20;
/// Writes that may wait, whatever their size.
const WAITING_MAX: usize = 16_384;
/// How long a shard waits for the next write before it closes the last group in the log.
const QUIET: Duration = Duration::from_millis(20);
/// How often an idle shard looks whether its head is due.
const IDLE: Duration = Duration::from_millis(500);

/// What a shard answers to a write.
pub type Answer = Result<Applied, Error>;

enum Message {
    Write { write: Write, bytes: u64, answer: oneshot::Sender<Answer> },
    Delete(Deletion),
    Stop,
}

/// A deletion that waits for its shard.
struct Deletion {
    tenant: TenantId,
    spec: DeletionSpec,
    answer: oneshot::Sender<Result<(), Error>>,
}

/// The sending end of a shard's queue.
#[derive(Clone)]
pub struct ShardQueue {
    sender: Sender<Message>,
    shared: Arc<Shared>,
    bytes_max: u64,
}

/// The receiving end, for the shard's thread. Who drops it has ended the shard.
pub struct ShardInbox {
    receiver: Receiver<Message>,
    shared: Arc<Shared>,
}

/// What both ends know.
#[derive(Default)]
struct Shared {
    waiting: AtomicU64,
    ended: AtomicBool,
}

impl Drop for ShardInbox {
    /// Lets go of all that waits: the channel would keep it, and its senders waiting, as long as there is a queue.
    fn drop(&mut self) {
        // SeqCst: pairs with the load behind each send. A sender that does not see the flag has sent before, and what it
        // sent is let go here.
        self.shared.ended.store(true, Ordering::SeqCst);
        while self.receiver.try_recv().is_ok() {}
    }
}

/// Why a write was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// `queue_bytes_max` bytes wait already.
    Full,
    /// The shard has stopped.
    Stopped,
}

/// Both ends of a shard's queue.
pub fn queue(bytes_max: u64) -> (ShardQueue, ShardInbox) {
    let (sender, receiver) = bounded(WAITING_MAX);
    let shared = Arc::<Shared>::default();
    (ShardQueue { sender, shared: Arc::clone(&shared), bytes_max }, ShardInbox { receiver, shared })
}

impl ShardQueue {
    /// Hands a write to the shard; the answer comes when it is durable and visible, or failed.
    pub fn push(&self, write: Write, bytes: u64) -> Result<oneshot::Receiver<Answer>, Refusal> {
        if self.has_ended() {
            return Err(Refusal::Stopped);
        }
        // Relaxed: a count, nothing is published through it.
        let before = self.shared.waiting.fetch_add(bytes, Ordering::Relaxed);
        // An empty queue takes any write: one request may be larger than the whole queue.
        if before > 0 && before + bytes > self.bytes_max {
            self.shared.waiting.fetch_sub(bytes, Ordering::Relaxed);
            return Err(Refusal::Full);
        }
        let (answer, receiver) = oneshot::channel();
        self.send(Message::Write { write, bytes, answer }).inspect_err(|_| {
            self.shared.waiting.fetch_sub(bytes, Ordering::Relaxed);
        })?;
        Ok(receiver)
    }

    /// Hands a deletion to the shard; it deletes what was pushed before it, and the answer comes when it is durable and
    /// hides what it names, or failed.
    pub fn delete(
        &self,
        tenant: TenantId,
        spec: DeletionSpec,
    ) -> Result<oneshot::Receiver<Result<(), Error>>, Refusal> {
        let (answer, receiver) = oneshot::channel();
        self.send(Message::Delete(Deletion { tenant, spec, answer }))?;
        Ok(receiver)
    }

    fn send(&self, message: Message) -> Result<(), Refusal> {
        self.sender.try_send(message).map_err(|error| match error {
            TrySendError::Full(_) => Refusal::Full,
            TrySendError::Disconnected(_) => Refusal::Stopped,
        })?;
        // Perhaps too late to be let go; see `ShardInbox::drop`.
        if self.has_ended() { Err(Refusal::Stopped) } else { Ok(()) }
    }

    /// Bytes that wait.
    pub fn waiting_bytes(&self) -> u64 {
        self.shared.waiting.load(Ordering::Relaxed)
    }

    /// Whether the shard takes no more: it was stopped, or a bug ended its thread.
    pub fn has_ended(&self) -> bool {
        self.shared.ended.load(Ordering::SeqCst)
    }

    /// Ends the shard's loop after what waits already.
    pub fn stop(&self) {
        // A full queue makes this wait until the shard has taken something.
        let _ = self.sender.send(Message::Stop);
    }
}

/// What the loop of a shard needs besides the shard.
pub struct Surroundings<'a> {
    /// The wall clock.
    pub now: &'a dyn Fn() -> Millis,
    /// Called after a turn or idle call, when there may be a step to run.
    pub wake: &'a dyn Fn(),
    /// Called with what went wrong outside of a write.
    pub report: &'a dyn Fn(&Error),
}

/// The loop of a shard's thread; returns when it was stopped, with the shard closed.
pub fn run(mut shard: Shard, inbox: &ShardInbox, surroundings: &Surroundings<'_>) {
    let mut writes: Vec<Write> = Vec::new();
    let mut answers: Vec<oneshot::Sender<Answer>> = Vec::new();
    let mut quiet = false;
    let mut idle_due = (surroundings.now)() + IDLE.as_millis() as Millis;
    loop {
        let mut bytes = 0;
        let mut stop = false;
        let mut deletion = None;
        let mut next = inbox.receiver.recv_timeout(if quiet { IDLE } else { QUIET });
        loop {
            match next {
                Ok(Message::Write { write, bytes: more, answer }) => {
                    writes.push(write);
                    answers.push(answer);
                    bytes += more;
                }
                Ok(Message::Delete(wanted)) => deletion = Some(wanted),
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => stop = true,
                Err(RecvTimeoutError::Timeout) => break,
            }
            if stop || deletion.is_some() || bytes >= TURN_BYTES {
                break;
            }
            next = inbox.receiver.try_recv().map_err(|_| RecvTimeoutError::Timeout);
        }
        let now = (surroundings.now)();
        if writes.is_empty() {
            quiet = true;
        } else {
            quiet = false;
            let results = shard.turn(&writes, now);
            writes.clear();
            inbox.shared.waiting.fetch_sub(bytes, Ordering::Relaxed);
            for (answer, result) in answers.drain(..).zip(results) {
                // The client may have left; its data is stored all the same.
                let _ = answer.send(result);
            }
        }
        // Behind the writes that came before it.
        if let Some(Deletion { tenant, spec, answer }) = deletion {
            quiet = false;
            let _ = answer.send(shard.delete(tenant, &spec, now));
            (surroundings.wake)();
        }
        // A clock that was set back must not stop the idle calls.
        if quiet || now >= idle_due || idle_due > now + 10 * IDLE.as_millis() as Millis {
            idle_due = now + IDLE.as_millis() as Millis;
            if let Err(error) = shard.idle(now) {
                (surroundings.report)(&error);
            }
            (surroundings.wake)();
        }
        if stop {
            break;
        }
    }
    if let Err(error) = shard.close() {
        (surroundings.report)(&error);
    }
    (surroundings.wake)();
}
