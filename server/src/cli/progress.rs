//! Progress on standard error: a bar that is redrawn on a terminal, plain lines at intervals elsewhere.
//!
//! One unit of work is a sample or a byte; the caller says which. Nothing is printed more often than people read.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use varve_vfs::Clock;

const REDRAW: Duration = Duration::from_millis(200);
const LINE: Duration = Duration::from_secs(10);
const WIDTH: u64 = 30;

/// What the work is counted in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unit {
    Samples,
    Bytes,
}

/// Progress of one command.
pub(super) struct Progress {
    clock: Arc<dyn Clock>,
    unit: Unit,
    /// All there is to do; 0 when nobody knows.
    total: u64,
    done: u64,
    /// What an earlier run did, so that it does not count as speed.
    skipped: u64,
    begin: Duration,
    printed: Duration,
    terminal: bool,
    /// A bar stands on the line.
    drawn: bool,
}

impl Progress {
    pub(super) fn new(clock: Arc<dyn Clock>, unit: Unit, total: u64) -> Progress {
        let begin = clock.elapsed();
        let terminal = std::io::stderr().is_terminal();
        Progress { clock, unit, total, done: 0, skipped: 0, begin, printed: begin, terminal, drawn: false }
    }

    /// Counts work that an earlier run did.
    pub(super) fn skip(&mut self, amount: u64) {
        self.skipped += amount;
        self.done += amount;
    }

    /// Counts work, and prints when it is time.
    pub(super) fn add(&mut self, amount: u64) {
        self.done += amount;
        let now = self.clock.elapsed();
        if now.saturating_sub(self.printed) < if self.terminal { REDRAW } else { LINE } {
            return;
        }
        self.printed = now;
        let line = self.line();
        let mut out = std::io::stderr().lock();
        let _ = if self.terminal { write!(out, "\r{line}\x1b[K") } else { writeln!(out, "{line}") };
        let _ = out.flush();
        self.drawn = self.terminal;
    }

    /// Prints a message on a line of its own.
    pub(super) fn say(&mut self, text: &str) {
        let mut out = std::io::stderr().lock();
        let _ = writeln!(out, "{}{text}", if self.drawn { "\r\x1b[K" } else { "" });
        self.drawn = false;
    }

    /// Time since the beginning.
    pub(super) fn elapsed(&self) -> Duration {
        self.clock.elapsed().saturating_sub(self.begin)
    }

    /// Work a second, without what was skipped.
    pub(super) fn rate(&self) -> f64 {
        (self.done - self.skipped) as f64 / self.elapsed().as_secs_f64().max(1e-3)
    }

    fn line(&self) -> String {
        let rate = self.rate();
        let speed = format!("{}/s", amount(self.unit, rate as u64));
        let done = amount(self.unit, self.done);
        if self.total == 0 {
            return format!("{done}  {speed}");
        }
        let filled = (self.done.min(self.total) as u128 * u128::from(WIDTH) / u128::from(self.total)) as usize;
        let bar = format!("{}{}", "#".repeat(filled), ".".repeat(WIDTH as usize - filled));
        let percent = (self.done as f64 / self.total as f64 * 100.0).min(100.0);
        let left = if rate >= 1.0 {
            duration((self.total.saturating_sub(self.done) as f64 / rate) as u64)
        } else {
            "?".to_owned()
        };
        format!("[{bar}] {percent:5.1} %  {done} of {}  {speed}  {left} left", amount(self.unit, self.total))
    }
}

/// A number with its unit, for people.
pub(super) fn amount(unit: Unit, number: u64) -> String {
    let (scales, word): (&[(f64, &str)], &str) = match unit {
        Unit::Samples => (&[(1e9, "G"), (1e6, "M"), (1e3, "k")], "samples"),
        Unit::Bytes => (&[(1_073_741_824.0, "Gi"), (1_048_576.0, "Mi"), (1024.0, "Ki")], "B"),
    };
    match scales.iter().find(|(scale, _)| number as f64 >= *scale) {
        Some((scale, prefix)) => {
            format!("{:.2} {prefix}{}{word}", number as f64 / scale, if word == "B" { "" } else { " " })
        }
        None => format!("{number} {word}"),
    }
}

/// Seconds as `1h02m` or `3m04s` or `5s`.
pub(super) fn duration(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds:02}s"),
        (hours, minutes, _) => format!("{hours}h{minutes:02}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_for_people() {
        assert_eq!(amount(Unit::Samples, 12), "12 samples");
        assert_eq!(amount(Unit::Samples, 1_234_567), "1.23 M samples");
        assert_eq!(amount(Unit::Bytes, 3 << 20), "3.00 MiB");
        assert_eq!([duration(7), duration(187), duration(3723)], ["7s", "3m07s", "1h02m"]);
    }

    #[test]
    fn the_bar_fills_and_never_overflows() {
        let mut progress = Progress::new(varve_vfs::Env::os().clock, Unit::Samples, 200);
        progress.skip(100);
        assert!(progress.line().starts_with("[###############...............]  50.0 %  100 samples of 200 samples"));
        progress.skip(1000);
        assert!(progress.line().starts_with("[##############################] 100.0 %"));
    }
}
