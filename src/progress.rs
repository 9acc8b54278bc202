//! Progress of long work: a bar on a terminal, nothing in pipes.

use std::cell::Cell;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Returns a bar that counts `total` bytes, after `title`; hidden where
/// standard error is no terminal, and in the first half second.
pub fn bytes(title: &str, total: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(10));
    let style = "{prefix} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar.set_prefix(title.to_owned());
    bar
}

/// Bars of several pieces of work at a time, one below the other; hidden where
/// standard error is no terminal.
#[derive(Debug)]
pub struct Bars {
    all: MultiProgress,
    /// Columns of the longest title.
    width: usize,
}

/// One of several bars; it goes away when it is dropped.
#[derive(Debug)]
pub struct Bar {
    bar: ProgressBar,
    counts: Cell<bool>,
}

impl Bars {
    /// No bars yet; their titles take at most `width` columns.
    pub fn new(width: usize) -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        Bars { all, width }
    }

    /// Adds a bar after `title`, which is seen from its first step on.
    pub fn add(&self, title: &str) -> Bar {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::hidden());
        bar.set_prefix(format!("{title:width$}", width = self.width));
        Bar { bar: self.all.add(bar), counts: Cell::new(false) }
    }

    /// Whether nobody sees them.
    pub fn are_hidden(&self) -> bool {
        self.all.is_hidden()
    }

    /// Does `print` with all bars taken away meanwhile.
    pub fn suspend<R>(&self, print: impl FnOnce() -> R) -> R {
        self.all.suspend(print)
    }
}

impl Bar {
    /// Shows what is waited for, where no bytes can be counted.
    pub fn wait(&self, what: &'static str) {
        self.counts.set(false);
        if let Ok(style) = ProgressStyle::with_template("  {prefix}  {spinner} {msg} {elapsed}") {
            self.bar.set_style(style);
        }
        self.bar.set_message(what);
        self.bar.reset_elapsed();
        self.bar.enable_steady_tick(Duration::from_millis(100));
    }

    /// Shows that `done` of `total` bytes are done of `what`.
    pub fn set(&self, what: &'static str, done: u64, total: u64) {
        const STYLE: &str = "  {prefix}  {msg} {bar:20} {decimal_bytes:>9} of {decimal_total_bytes} {decimal_bytes_per_sec:>12}, {eta} left";
        if self.counts.replace(true) {
            self.bar.set_length(total);
            self.bar.set_position(done);
            return;
        }
        self.bar.disable_steady_tick();
        self.bar.set_length(total);
        self.bar.set_position(done);
        self.bar.set_message(what);
        // The rate is of what comes from here on.
        self.bar.reset_eta();
        if let Ok(style) = ProgressStyle::with_template(STYLE) {
            self.bar.set_style(style);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
