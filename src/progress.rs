//! Progress of long work: a bar on a terminal, nothing in pipes.

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
pub struct Bars(MultiProgress);

/// One of several bars; it goes away when it is dropped.
#[derive(Debug)]
pub struct Bar(ProgressBar);

impl Bars {
    /// No bars yet.
    #[expect(clippy::new_without_default, reason = "it opens the terminal")]
    pub fn new() -> Self {
        Bars(MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10)))
    }

    /// Adds a bar after `title`, which is seen from its first step on.
    pub fn add(&self, title: &str) -> Bar {
        let bar = bytes(title, 0);
        bar.set_draw_target(ProgressDrawTarget::hidden());
        Bar(self.0.add(bar))
    }

    /// Does `print` with all bars taken away meanwhile.
    pub fn suspend<R>(&self, print: impl FnOnce() -> R) -> R {
        self.0.suspend(print)
    }
}

impl Bar {
    /// Shows that `done` of `total` bytes are done.
    pub fn set(&self, done: u64, total: u64) {
        self.0.set_length(total);
        self.0.set_position(done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
