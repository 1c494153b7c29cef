//! Runtime: every thread there is, what it owns, how it stops. Nothing else in Varve starts a thread.
//!
//! | thread | number | owns | stops |
//! |---|---|---|---|
//! | `http` (tokio workers) | cores / 2 | sockets, request state | when the listener is closed and requests are answered |
//! | `shard-N` | one per partition | its `Shard`: writer and head | after what waits in its queue |
//! | `maintenance-N` | cores / 4 | the step it runs | after that step |
//! | `query-N` | cores | its morsel | at once |
//! | blocking threads of tokio | as many as queries run | one query's evaluation and answer | with the query |
//!
//! Stop: no new connection; open requests are answered; shards take what waits and close, which freezes their heads;
//! the flushes that this makes due are run. All of it within `shutdown_ms_max`; what is not flushed by then is in the
//! log and is read back at the next start.
//!
//! A panic is our bug and ends as little as it can: a step, which is tried again, or a shard, whose writes are refused
//! from then on, which `/-/ready` and a metric tell. What it had acknowledged is in the log.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use varve_engine::{Engine, Recovery, Shard};
use varve_query::exec::Pool;
use varve_vfs::Env;

use crate::app::{App, Store};
use crate::config::Settings;
use crate::http::connection;
use crate::shard::{self, ShardInbox, Surroundings};
use crate::{process, scrape, self_scrape};

/// Stack of every thread of ours: deep expressions are bounded by the parser, this leaves room beyond that bound.
const STACK_BYTES: usize = 8 << 20;
/// Descriptors kept for files: log files, segments, the standard streams.
const RESERVED_FILES: u64 = 40;
/// How long a maintenance thread waits for work when nobody wakes it.
const MAINTENANCE_IDLE: Duration = Duration::from_millis(500);
/// Longest pause after steps that failed again and again.
const MAINTENANCE_PAUSE_MAX: Duration = Duration::from_secs(15);

/// Why the server did not run, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be listened at.
    #[error("cannot listen at {address}: {source}")]
    Listen {
        /// The address as configured.
        address: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The data directory cannot be opened.
    #[error(transparent)]
    Open(#[from] varve_engine::Error),
    /// The configuration of scrapes is wrong.
    #[error("setting `scrape_config_file`: {0}")]
    Scrape(String),
    /// The system gave no thread or no signal handler.
    #[error("{doing}: {source}")]
    System {
        /// What was being done.
        doing: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

fn system(doing: &'static str) -> impl FnOnce(std::io::Error) -> ServeError {
    move |source| ServeError::System { doing, source }
}

/// Runs a server until a signal stops it.
pub fn serve(settings: Settings) -> Result<(), ServeError> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let threads = |setting: u32, default: usize| if setting == 0 { default.max(1) } else { setting as usize };
    let http_threads = threads(settings.server.http_threads, cores / 2);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(http_threads)
        .max_blocking_threads(
            settings.limits.concurrent_queries_max as usize + http_threads + 16 + varve_agent::BLOCKING_THREADS,
        )
        .thread_name("http")
        .thread_stack_size(STACK_BYTES)
        .enable_all()
        .build()
        .map_err(system("starting the threads of HTTP"))?;
    let counts = Counts {
        query: threads(settings.server.query_threads, cores),
        maintenance: threads(settings.server.maintenance_threads, cores / 4),
    };
    let grace = Duration::from_millis(settings.server.shutdown_ms_max);
    let app = Arc::new(App::new(settings, Env::os()));
    let result = runtime.block_on(run(app, counts));
    runtime.shutdown_timeout(grace.min(Duration::from_secs(1)));
    result
}

struct Counts {
    query: usize,
    maintenance: usize,
}

async fn run(app: Arc<App>, counts: Counts) -> Result<(), ServeError> {
    app.scraper.prepare(&app.settings.server, app.now()).map_err(ServeError::Scrape)?;
    let address = app.settings.server.listen.clone();
    let listener = TcpListener::bind(&address).await;
    let listener = listener.map_err(|source| ServeError::Listen { address: address.clone(), source })?;
    let local = listener.local_addr().map_err(|source| ServeError::Listen { address, source })?;
    let mut stopped = StopSignal::new()?;
    app.on_reload({
        let app = Arc::downgrade(&app);
        Box::new(move || {
            let app = app.upgrade();
            Box::pin(async move {
                match app {
                    Some(app) => scrape::reload(app).await,
                    None => Ok(()),
                }
            })
        })
    });
    let mut hangup = signal(SignalKind::hangup()).map_err(system("installing signal handlers"))?;
    let reloads = tokio::spawn({
        let app = Arc::clone(&app);
        async move {
            while hangup.recv().await.is_some() {
                // What went wrong has been logged.
                let _ = app.reload().await;
            }
        }
    });
    let (stop, stop_seen) = watch::channel(false);
    let connections = tokio::spawn(connection::serve(Arc::clone(&app), listener, connections_max(&app), stop_seen));

    // Connections are answered from here on: 503 until the data is there.
    let opening = tokio::task::spawn_blocking({
        let app = Arc::clone(&app);
        move || open(&app)
    });
    let opened = tokio::select! {
        opened = opening => opened,
        // What was being read back is only read: nothing is lost by leaving.
        () = stopped.wait() => return Ok(()),
    };
    let (engine, shards, recovery) =
        opened.map_err(|e| system("opening the data directory")(std::io::Error::other(e)))??;
    report_recovery(&app, &recovery);
    let threads = Threads::start(&app, &engine, shards, &counts)?;
    tracing::info!(address = %local, data_dir = %app.settings.server.data_dir.display(), "ready");
    let scrape = app.settings.server.self_scrape.then(|| tokio::spawn(self_scrape::run(Arc::clone(&app), local)));
    app.scraper.start(&app);

    tokio::select! {
        () = stopped.wait() => {}
        () = app.quit() => {}
    }
    tracing::info!("stopping");
    reloads.abort();
    let deadline = app.elapsed() + Duration::from_millis(app.settings.server.shutdown_ms_max);
    if let Some(scrape) = scrape {
        scrape.abort();
    }
    app.scraper.stop(deadline.saturating_sub(app.elapsed()) / 4).await;
    app.stop();
    let _ = stop.send(true);
    // Half of the time for requests, the rest for the flush.
    let _ = tokio::time::timeout(deadline.saturating_sub(app.elapsed()) / 2, connections).await;
    let flushed = tokio::task::spawn_blocking(move || threads.stop(&app, &engine, deadline)).await;
    match flushed {
        Ok(true) => tracing::info!("stopped; all data is in segments"),
        _ => tracing::warn!("stopped before all data was flushed; the next start reads it back from the log"),
    }
    Ok(())
}

/// As many as the setting says, and as the descriptors allow.
fn connections_max(app: &App) -> usize {
    let files = process::raise_open_files();
    let allowed = files.saturating_sub(RESERVED_FILES.max(files / 4)).max(4);
    u64::from(app.settings.server.http_connections_max).min(allowed) as usize
}

fn open(app: &App) -> varve_engine::Result<(Arc<Engine>, Vec<Shard>, Recovery)> {
    let settings = &app.settings;
    Engine::open(app.env.clone(), &settings.server.data_dir, settings.engine.clone(), settings.limits.clone())
}

fn report_recovery(app: &App, recovery: &Recovery) {
    for report in &recovery.reports {
        tracing::warn!("{report}");
    }
    app.metrics.recovery_reports.add(recovery.reports.len() as u64);
    app.metrics.recovery_ms.add(recovery.elapsed_ms);
    app.metrics.samples_replayed.add(recovery.samples_replayed);
    tracing::info!(
        samples = recovery.samples_replayed,
        series = recovery.series,
        segments = recovery.segments,
        ms = recovery.elapsed_ms,
        "data directory read"
    );
}

/// SIGTERM or SIGINT.
struct StopSignal {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl StopSignal {
    fn new() -> Result<StopSignal, ServeError> {
        let of = |kind| signal(kind).map_err(system("installing signal handlers"));
        Ok(StopSignal { terminate: of(SignalKind::terminate())?, interrupt: of(SignalKind::interrupt())? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Wakes the maintenance threads.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    waiting: Condvar,
}

impl Bell {
    fn ring(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.waiting.notify_one();
    }

    fn wait(&self, at_most: Duration) {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.waiting.wait_timeout_while(rung, at_most, |rung| !*rung);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}

/// The threads of the data floors.
struct Threads {
    stop_maintenance: Arc<AtomicBool>,
    stop_queries: Arc<AtomicBool>,
    bell: Arc<Bell>,
    shards: Vec<thread::JoinHandle<()>>,
    maintenance: Vec<thread::JoinHandle<()>>,
}

impl Threads {
    /// Starts them and makes the app ready.
    fn start(app: &Arc<App>, engine: &Arc<Engine>, shards: Vec<Shard>, counts: &Counts) -> Result<Threads, ServeError> {
        let mut threads = Threads {
            stop_maintenance: Arc::default(),
            stop_queries: Arc::default(),
            bell: Arc::default(),
            shards: Vec::new(),
            maintenance: Vec::new(),
        };
        let mut queues = Vec::new();
        for shard in shards {
            let (queue, inbox) = shard::queue(app.settings.limits.queue_bytes_max);
            queues.push(queue);
            let (app, bell) = (Arc::clone(app), Arc::clone(&threads.bell));
            let name = format!("shard-{}", shard.partition());
            threads.shards.push(spawn(name, move || run_shard(&app, &bell, shard, inbox))?);
        }
        for number in 0..counts.maintenance {
            let (app, engine, bell) = (Arc::clone(app), Arc::clone(engine), Arc::clone(&threads.bell));
            let stop = Arc::clone(&threads.stop_maintenance);
            let run = move || run_maintenance(&app, &engine, &bell, &stop);
            threads.maintenance.push(spawn(format!("maintenance-{number}"), run)?);
        }
        let pool = Pool::new();
        for number in 0..counts.query {
            let (pool, stop) = (pool.clone(), Arc::clone(&threads.stop_queries));
            spawn(format!("query-{number}"), move || pool.worker(&stop))?;
        }
        app.open(Store { engine: Arc::clone(engine), shards: queues, pool });
        Ok(threads)
    }

    /// Ends shards, then maintenance, then flushes what is left. Whether all of it was done by `deadline`.
    fn stop(self, app: &App, engine: &Engine, deadline: Duration) -> bool {
        self.stop_queries.store(true, Ordering::SeqCst);
        if let Some(store) = app.find_store() {
            store.pool.wake_all();
            store.shards.iter().for_each(shard::ShardQueue::stop);
        }
        let mut ended = join(app, self.shards, deadline);
        self.stop_maintenance.store(true, Ordering::SeqCst);
        for _ in &self.maintenance {
            self.bell.ring();
        }
        ended &= join(app, self.maintenance, deadline);
        if !ended {
            return false;
        }
        engine.request_flush();
        while let Some(step) = engine.next_step(app.now()) {
            // Only flushes: the rest goes on at the next start.
            if step.name() != "flush" {
                break;
            }
            if app.elapsed() >= deadline {
                return false;
            }
            if let Err(error) = step.run(&app.env).and_then(|done| engine.install(done)) {
                tracing::warn!(%error, "the last flush failed");
                return false;
            }
        }
        true
    }
}

fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> Result<thread::JoinHandle<()>, ServeError> {
    thread::Builder::new().name(name).stack_size(STACK_BYTES).spawn(run).map_err(system("starting a thread"))
}

/// Waits for threads to end; whether all did by `deadline`.
fn join(app: &App, threads: Vec<thread::JoinHandle<()>>, deadline: Duration) -> bool {
    let mut all = true;
    for thread in threads {
        while !thread.is_finished() && app.elapsed() < deadline {
            thread::park_timeout(Duration::from_millis(2));
        }
        all &= thread.is_finished() && thread.join().is_ok();
    }
    all
}

fn run_shard(app: &App, bell: &Bell, shard: Shard, inbox: ShardInbox) {
    let partition = shard.partition();
    let surroundings = Surroundings {
        now: &|| app.now(),
        wake: &|| bell.ring(),
        report: &|error| tracing::warn!(partition, %error, "a shard's idle call failed"),
    };
    let ran = catch_unwind(AssertUnwindSafe(|| shard::run(shard, &inbox, &surroundings)));
    // From here on its writes are refused.
    drop(inbox);
    if let Err(panic) = ran {
        app.metrics.shards_ended.add(1);
        tracing::error!(partition, "a bug ended the shard; restart the server, its log has all that was acknowledged");
        // The head was not closed: who joins the thread must know.
        resume_unwind(panic);
    }
}

fn run_maintenance(app: &App, engine: &Engine, bell: &Bell, stop: &AtomicBool) {
    let mut failures = 0;
    let mut retention_error = None;
    while !stop.load(Ordering::SeqCst) {
        match run_step(app, engine) {
            Ok(true) => {
                failures = 0;
                tell_retention(engine, &mut retention_error);
            }
            Ok(false) => bell.wait(MAINTENANCE_IDLE),
            Err(error) => {
                app.metrics.steps_failed.add(1);
                tracing::warn!(%error, "step failed; it will be tried again");
                let pause = (Duration::from_millis(100) * (1 << failures)).min(MAINTENANCE_PAUSE_MAX);
                failures = (failures + 1).min(8);
                let until = app.elapsed() + pause;
                while app.elapsed() < until && !stop.load(Ordering::SeqCst) {
                    bell.wait(Duration::from_millis(100));
                }
            }
        }
    }
}

/// Says once that log files cannot be removed, and once that they can again.
fn tell_retention(engine: &Engine, told: &mut Option<String>) {
    let error = engine.retention_error();
    if error == *told {
        return;
    }
    match &error {
        Some(error) => tracing::warn!(%error, "log files could not be removed; they cost space meanwhile"),
        None => tracing::info!("log files are removed again"),
    }
    *told = error;
}

/// Runs the next step; whether there was one. A panic gives the step back as an error does.
fn run_step(app: &App, engine: &Engine) -> Result<bool, String> {
    let mut name = "planning";
    let begin = app.elapsed();
    let run = || match engine.next_step(app.now()) {
        None => Ok(false),
        Some(step) => {
            name = step.name();
            step.run(&app.env).and_then(|done| engine.install(done)).map(|()| true)
        }
    };
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(ran)) => {
            if ran {
                let seconds = app.elapsed().saturating_sub(begin).as_secs_f64();
                app.metrics.step_seconds.observe(seconds);
                tracing::debug!(step = name, seconds, "step done");
            }
            Ok(ran)
        }
        Ok(Err(error)) => Err(format!("{name}: {error}")),
        Err(_) => Err(format!("{name}: a bug ended it")),
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;
    use std::sync::atomic::AtomicI64;

    use varve_engine::Write;
    use varve_model::{TenantName, WriteBatch};
    use varve_vfs::{Clock, File, Lock, Nanos, Open, Vfs};

    use super::*;

    /// A machine whose time flies, with a bug that is met once.
    #[derive(Debug)]
    struct Machine {
        vfs: Arc<dyn Vfs>,
        seconds: AtomicI64,
        /// Part of the name of a file whose creation it breaks, or `clock`.
        bug: Mutex<Option<&'static str>>,
    }

    impl Machine {
        fn meet(&self, what: &str) {
            let met = self.bug.lock().unwrap().take_if(|bug| what.contains(*bug));
            assert!(met.is_none(), "a bug at {what}, which the test has put there");
        }

        fn pass(&self) -> i64 {
            self.seconds.fetch_add(60, Ordering::Relaxed)
        }
    }

    impl Clock for Machine {
        fn wall(&self) -> Nanos {
            self.meet("clock");
            Nanos(self.pass() * 1_000_000_000)
        }

        fn elapsed(&self) -> Duration {
            Duration::from_secs(self.pass().unsigned_abs())
        }
    }

    impl Vfs for Machine {
        fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
            if how == Open::Create {
                self.meet(&path.to_string_lossy());
            }
            self.vfs.open(path, how)
        }

        fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
            self.vfs.list(dir)
        }

        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            self.vfs.rename(from, to)
        }

        fn remove(&self, path: &Path) -> io::Result<()> {
            self.vfs.remove(path)
        }

        fn create_dir(&self, dir: &Path) -> io::Result<()> {
            self.vfs.create_dir(dir)
        }

        fn sync_dir(&self, dir: &Path) -> io::Result<()> {
            self.vfs.sync_dir(dir)
        }

        fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
            self.vfs.lock(path)
        }
    }

    /// A server without threads: its app, its engine, its only shard, and the machine below.
    fn opened(dir: &Path) -> (App, Arc<Engine>, Shard, Arc<Machine>) {
        let seconds = AtomicI64::new(1_700_000_000);
        let machine = Arc::new(Machine { vfs: Env::os().vfs, seconds, bug: Mutex::default() });
        let env = Env { vfs: machine.clone(), clock: machine.clone(), seed: 1 };
        let mut settings = Settings::default();
        settings.server.data_dir = dir.to_owned();
        settings.engine.partitions = 1;
        let app = App::new(settings, env);
        let (engine, mut shards, _) = open(&app).unwrap();
        (app, engine, shards.remove(0), machine)
    }

    fn write(app: &App, engine: &Engine) -> Write {
        let mut batch = WriteBatch::default();
        batch.push_series([("__name__", "x")].into_iter());
        batch.push_sample(app.now(), 1.0);
        Write { tenant: engine.tenant(&TenantName::default()).unwrap(), batch: Arc::new(batch), series: vec![0] }
    }

    // A panic in a step ended the thread: nothing was flushed any more, and the server said that it was ready.
    #[test]
    fn a_bug_in_a_step_fails_it_and_it_is_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let (app, engine, mut shard, machine) = opened(dir.path());
        assert!(shard.turn(&[write(&app, &engine)], app.now()).remove(0).is_ok());
        let flush = engine.request_flush();
        shard.idle(app.now()).unwrap();
        *machine.bug.lock().unwrap() = Some("/tmp/");
        assert_eq!(run_step(&app, &engine), Err("flush: a bug ended it".to_owned()));
        assert!(!engine.is_flushed(flush));
        let again = (0..100).any(|_| run_step(&app, &engine) == Ok(true));
        assert!(again && engine.is_flushed(flush));
    }

    #[test]
    fn a_bug_in_a_shard_is_told_and_its_writes_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (app, engine, shard, machine) = opened(dir.path());
        let (queue, inbox) = shard::queue(1 << 20);
        app.open(Store { engine: Arc::clone(&engine), shards: vec![queue.clone()], pool: Pool::new() });
        assert!(app.ready().is_ok());
        let waits = queue.push(write(&app, &engine), 1).unwrap();
        *machine.bug.lock().unwrap() = Some("clock");
        let ended = catch_unwind(AssertUnwindSafe(|| run_shard(&app, &Bell::default(), shard, inbox)));
        assert!(ended.is_err(), "who joins the thread sees it");
        assert!(waits.blocking_recv().is_err());
        assert_eq!(queue.push(write(&app, &engine), 1).map(drop), Err(shard::Refusal::Stopped));
        assert_eq!(app.metrics.shards_ended.get(), 1);
        let refused = app.ready().map(drop).unwrap_err();
        assert!(refused.status() == 503 && refused.text().contains("shard 0 has stopped"), "{refused}");
        assert!(app.store().is_ok(), "queries go on");
    }
}
