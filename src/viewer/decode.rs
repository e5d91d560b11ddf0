//! What the demo's pictures say about when they were made: the time strip, decoded on a thread of its own, and the send stamp.
//!
//! The arrival times were taken when the bytes came, so a decoder that is slow does not distort them. Without the feature `demo` nothing
//! is read, and latency is measured by PROGRAM-DATE-TIME alone.
//!
//! Pictures are taken to be shown in the order in which they were coded: the demo has no others.

use super::demux::Unit;

#[cfg(feature = "demo")]
pub(super) use with_demo::{Decoding, sent_at};
#[cfg(not(feature = "demo"))]
pub(super) use without_demo::{Decoding, sent_at};

#[cfg(feature = "demo")]
mod with_demo {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
    use std::sync::{Arc, Mutex, PoisonError};
    use std::thread::JoinHandle;

    use openh264::decoder::Decoder;
    use openh264::formats::YUVSource;
    use tracing::debug;

    use super::Unit;
    use crate::demo::{cells, stamp};
    use crate::media::Track;
    use crate::viewer::demux::nal_units;
    use crate::viewer::stats::{Clock, Totals};

    /// A thread that decodes.
    #[derive(Debug)]
    pub(in crate::viewer) struct Decoding {
        sender: Option<SyncSender<Work>>,
        thread: Option<JoinHandle<()>>,
        over: Arc<AtomicBool>,
        totals: Arc<Mutex<Totals>>,
        /// Pictures were left out, so none can be decoded before the next key picture.
        waiting_for_key: bool,
    }

    #[derive(Debug)]
    struct Work {
        unit: Unit,
        waiting: i64,
        counts: bool,
    }

    impl Decoding {
        /// Starts the thread. `None` if there can be none.
        pub(in crate::viewer) fn start(totals: &Arc<Mutex<Totals>>) -> Option<Self> {
            let decoder = Decoder::new().ok()?;
            let (sender, receiver) = sync_channel(QUEUE);
            let over = Arc::new(AtomicBool::new(false));
            let (shared, flag) = (Arc::clone(totals), Arc::clone(&over));
            let thread = std::thread::Builder::new()
                .name("decoder".to_owned())
                .spawn(move || {
                    run(decoder, &receiver, &shared);
                    flag.store(true, Ordering::Relaxed);
                })
                .ok()?;
            Some(Self {
                sender: Some(sender),
                thread: Some(thread),
                over,
                totals: Arc::clone(totals),
                waiting_for_key: true,
            })
        }

        /// Takes an access unit; its latency is counted if it `counts`. Never waits.
        pub(in crate::viewer) fn take(&mut self, unit: Unit, waiting: i64, counts: bool) {
            if unit.track != Track::Video {
                return;
            }
            self.waiting_for_key &= !unit.key;
            let Some(sender) = self.sender.as_ref().filter(|_| !self.waiting_for_key) else {
                return;
            };
            let work = Work {
                unit,
                waiting,
                counts,
            };
            if let Err(TrySendError::Full(_)) = sender.try_send(work) {
                self.waiting_for_key = true;
                let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
                totals.undecoded += 1;
            }
        }

        /// Whether there is nothing to be read in these pictures.
        pub(in crate::viewer) fn is_over(&self) -> bool {
            self.over.load(Ordering::Relaxed)
        }
    }

    impl Drop for Decoding {
        fn drop(&mut self) {
            self.sender = None;
            if let Some(thread) = self.thread.take() {
                // It has at most a queue of pictures left.
                let _ = thread.join();
            }
        }
    }

    fn run(mut decoder: Decoder, receiver: &Receiver<Work>, totals: &Mutex<Totals>) {
        let (mut found, mut in_vain) = (false, 0);
        for Work {
            unit,
            waiting,
            counts,
        } in receiver
        {
            let arrival = unit.arrival.unix_micros;
            let read = match decoder.decode(&unit.data) {
                Ok(Some(picture)) => {
                    let (width, height) = picture.dimensions();
                    cells::decode_cells(picture.y(), width, height, picture.strides().0)
                }
                Ok(None) => None,
                Err(error) => {
                    debug!(%error, "a picture cannot be decoded");
                    None
                }
            };
            let drawn = read.and_then(|millis| i64::try_from(millis).ok()?.checked_mul(1000));
            match drawn.filter(|drawn| (arrival - drawn).abs() < PLAUSIBLE) {
                Some(drawn) => {
                    found = true;
                    if counts {
                        let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
                        totals.latency(Clock::Picture, arrival - drawn, waiting);
                    }
                }
                None => in_vain += 1,
            }
            if !found && in_vain >= PATIENCE {
                return;
            }
        }
    }

    /// When the picture was handed over, in microseconds since 1970, if it says so.
    pub(in crate::viewer) fn sent_at(data: &[u8]) -> Option<i64> {
        let time = nal_units(data).take(MOST_UNITS).find_map(stamp::read)?;
        i64::try_from(time).ok()
    }

    /// Pictures that may wait for the decoder: two seconds of them.
    const QUEUE: usize = 64;
    /// Pictures without a strip after which it is another stream.
    const PATIENCE: u32 = 60;
    /// NAL units among which the stamp is looked for: it stands before the slices.
    const MOST_UNITS: usize = 8;
    /// One strip in 256 that is none has a right check sum; no stream is an hour late.
    const PLAUSIBLE: i64 = 3_600_000_000;
}

#[cfg(not(feature = "demo"))]
mod without_demo {
    use std::sync::{Arc, Mutex};

    use super::Unit;
    use crate::viewer::stats::Totals;

    /// Decodes nothing.
    #[derive(Debug)]
    pub(in crate::viewer) enum Decoding {}

    impl Decoding {
        pub(in crate::viewer) fn start(_: &Arc<Mutex<Totals>>) -> Option<Self> {
            None
        }

        pub(in crate::viewer) fn take(&mut self, _: Unit, _: i64, _: bool) {}

        pub(in crate::viewer) fn is_over(&self) -> bool {
            true
        }
    }

    pub(in crate::viewer) fn sent_at(_: &[u8]) -> Option<i64> {
        None
    }
}
