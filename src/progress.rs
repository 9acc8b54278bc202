//! Progress of long work: a bar on a terminal, nothing in pipes.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

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
