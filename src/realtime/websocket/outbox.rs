//! What waits for one client: bounded in bytes, the newest snapshot in place of older ones.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use axum::extract::ws::Utf8Bytes;
use tokio::sync::Notify;

use crate::{
    metrics::numbers,
    realtime::projector::{Close, Frame, Listener, Told},
};

/// A client's buffer.
pub(super) struct Outbox {
    waiting: Mutex<Waiting>,
    wake: Notify,
    max_bytes: usize,
}

#[derive(Default)]
struct Waiting {
    frames: VecDeque<Frame>,
    bytes: usize,
    close: Option<Close>,
}

impl Outbox {
    /// Holds so many bytes, or one message that is larger.
    pub fn new(max_bytes: usize) -> Outbox {
        Outbox { waiting: Mutex::default(), wake: Notify::new(), max_bytes }
    }

    /// Waits for something to be sent; behind the messages the connection may be to be closed.
    pub async fn next(&self) -> (Vec<Utf8Bytes>, Option<Close>) {
        loop {
            {
                let mut waiting = self.lock();
                if !waiting.frames.is_empty() || waiting.close.is_some() {
                    waiting.bytes = 0;
                    let texts = waiting.frames.drain(..).map(|frame| frame.text).collect();
                    return (texts, waiting.close.clone());
                }
            }
            self.wake.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener for Outbox {
    fn hear(&self, told: &Told) {
        let mut waiting = self.lock();
        if waiting.close.is_some() {
            return;
        }
        for frame in &told.frames {
            if !waiting.take(frame.clone(), self.max_bytes) {
                // It would miss something without noticing; when it is back, it asks or is told where things stand.
                numbers().slow_closed.with_label_values(&["raw"]).inc();
                *waiting = Waiting { close: Some(Close::TRY_AGAIN), ..Waiting::default() };
                break;
            }
        }
        waiting.close = waiting.close.take().or_else(|| told.close.clone());
        drop(waiting);
        self.wake.notify_one();
    }
}

impl Waiting {
    /// Returns whether there was room.
    fn take(&mut self, frame: Frame, max_bytes: usize) -> bool {
        if frame.snapshot_of.is_some()
            && let Some(older) = self.frames.iter().position(|older| older.snapshot_of == frame.snapshot_of)
            && let Some(older) = self.frames.remove(older)
        {
            self.bytes -= older.text.len();
        }
        if self.bytes + frame.text.len() > max_bytes && !self.frames.is_empty() {
            return false;
        }
        self.bytes += frame.text.len();
        self.frames.push_back(frame);
        true
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn said(text: &str) -> Told {
        let mut told = Told::default();
        told.say(text);
        told
    }

    fn shown(thing: i64, text: &str) -> Told {
        let mut told = Told::default();
        told.show(thing, text);
        told
    }

    fn next(outbox: &Outbox) -> (Vec<String>, Option<u16>) {
        let (texts, close) = outbox.next().now_or_never().unwrap();
        (texts.iter().map(|text| text.to_string()).collect(), close.map(|close| close.code))
    }

    #[test]
    fn a_client_that_does_not_keep_up_is_shown_the_newest_snapshot_and_misses_nothing_that_is_said() {
        let outbox = Outbox::new(100);
        for told in [shown(1, "1"), said("a"), shown(1, "2"), shown(2, "x"), said("b"), shown(1, "3")] {
            outbox.hear(&told);
        }
        assert_eq!(next(&outbox), (["a", "x", "b", "3"].map(String::from).to_vec(), None));
        assert!(outbox.next().now_or_never().is_none());
    }

    #[test]
    fn what_does_not_fit_sends_the_client_away_to_come_back() {
        let outbox = Outbox::new(10);
        outbox.hear(&said("a message that is larger than all the room"));
        assert_eq!(next(&outbox).0.len(), 1);
        outbox.hear(&said("12345678"));
        outbox.hear(&said("123"));
        outbox.hear(&said("4"));
        assert_eq!(next(&outbox), (Vec::new(), Some(1013)));
    }

    #[test]
    fn nothing_is_told_behind_the_end() {
        let outbox = Outbox::new(10);
        let mut last = said("end");
        last.close(Close::NORMAL);
        outbox.hear(&last);
        outbox.hear(&said("more"));
        assert_eq!(next(&outbox), (vec!["end".into()], Some(1000)));
    }
}
