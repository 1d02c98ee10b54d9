//! The bar that shows what a benchmark is at; on a terminal only.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// One bar on standard error.
pub struct Progress {
    bar: ProgressBar,
    title: String,
}

impl Progress {
    pub fn new(title: impl Into<String>) -> Progress {
        let look = "{elapsed_precise} {bar:30} {pos}/{len} {msg}";
        let style = ProgressStyle::with_template(look).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(1).with_style(style);
        bar.enable_steady_tick(Duration::from_millis(250));
        Progress { bar, title: title.into() }
    }

    /// Something new is counted, up to `length`.
    pub fn begin(&self, what: &str, length: u64) {
        self.bar.set_message(format!("{}: {what}", self.title));
        self.bar.set_length(length);
        self.bar.set_position(0);
    }

    pub fn at(&self, position: u64) {
        self.bar.set_position(position);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
