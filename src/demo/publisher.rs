//! Publishes the test signal to an RTMP server in real time.
//!
//! Pictures are drawn and encoded on a thread of their own, by a schedule on the monotonic clock: picture slot `n` begins
//! `n / fps` after the start, and that is its timestamp. A thread that comes a little late hurries, as encoders do; where that is too
//! late, it leaves slots out. Each audio frame leaves when its last sample is due, as from a live encoder. Both go through a bounded channel:
//! when the network does not keep up, whole runs of pictures up to the next key picture are dropped and counted.
//!
//! Each picture carries a stamp of when it was sent ([`super::stamp`]). It prints nothing and does not reconnect.

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{self, Sender};
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::encoder::{self, VideoEncoder};
use super::picture::Picture;
use super::stamp;
use super::tone::{self, Tone};
use crate::dial::Trust;
use crate::flv::write::{self, AudioMetadata, Metadata, VideoMetadata};
use crate::rtmp::push::{self, Media};
use crate::rtmp::url::Url;

/// What to send, and where.
#[derive(Debug, Clone)]
pub struct PublishOptions {
    /// Where to publish.
    pub url: Url,
    /// Whom to believe to be that server, with `rtmps://`.
    pub trust: Trust,
    /// Width and height in pixels: even, 160 × 90 to 3840 × 2160. Costs CPU in proportion to the area.
    pub size: (u32, u32),
    /// Pictures a second, 1 to 120. Costs CPU in proportion.
    pub fps: u32,
    /// From one key picture to the next, up to 60 s; rounded to whole pictures. It is the least a segment can last.
    pub gop: Duration,
    /// Bits a second that the video may take, 50 000 to 50 000 000. The picture is simple and often takes less.
    pub bitrate: u32,
    /// Whether to send the tone along.
    pub audio: bool,
    /// Samples that the tone really takes a second, 47 000 to 49 000, while it says 48 000: a sound card whose clock is not the computer's.
    /// Each frame leaves, and is timed, when such a card would have filled it.
    pub sound_rate: u32,
    /// When to stop; `None` for when told to.
    pub duration: Option<Duration>,
}

/// What was sent.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Summary {
    /// Pictures handed to the connection.
    pub pictures: u64,
    /// Picture slots left out because drawing and encoding came too late.
    pub skipped: u64,
    /// Pictures dropped because the network did not keep up.
    pub dropped: u64,
    /// Audio frames handed to the connection.
    pub audio_frames: u64,
    /// Bytes sent, all of RTMP included.
    pub bytes: u64,
    /// Mean time to draw and encode one picture.
    pub mean_encode: Duration,
    /// From the first picture slot to the end.
    pub elapsed: Duration,
}

/// Why publishing did not start, or ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An option out of its range.
    #[error("{0}")]
    Options(String),
    /// The picture could not be encoded.
    #[error(transparent)]
    Encoder(#[from] encoder::Error),
    /// The connection failed or was refused.
    #[error(transparent)]
    Push(#[from] push::Error),
    /// A thread or task ended in a way it never should.
    #[error("the test signal stopped: {0}")]
    Task(#[from] tokio::task::JoinError),
}

impl PublishOptions {
    /// 640 × 360 at 30 pictures a second, a key picture each second, 1.5 Mb/s, with the tone, without end.
    pub fn new(url: Url) -> Self {
        Self {
            url,
            trust: Trust::default(),
            size: (640, 360),
            fps: 30,
            gop: Duration::from_secs(1),
            bitrate: 1_500_000,
            audio: true,
            sound_rate: tone::SAMPLE_RATE,
            duration: None,
        }
    }

    /// Whether every option is in its range; the error's text says which is not.
    pub fn check(&self) -> Result<(), Error> {
        let (width, height) = self.size;
        let problem = if !(160..=3840).contains(&width)
            || !(90..=2160).contains(&height)
            || width % 2 + height % 2 > 0
        {
            format!("size {width}x{height}: expected even numbers from 160x90 to 3840x2160")
        } else if !(1..=120).contains(&self.fps) {
            format!("{} pictures a second: expected 1 to 120", self.fps)
        } else if self.gop.is_zero() || self.gop > MAX_GOP {
            format!(
                "key picture interval {:?}: expected more than 0 and at most {MAX_GOP:?}",
                self.gop
            )
        } else if !(50_000..=50_000_000).contains(&self.bitrate) {
            format!(
                "bit rate {}: expected 50000 to 50000000 bits a second",
                self.bitrate
            )
        } else if !(47_000..=49_000).contains(&self.sound_rate) {
            format!(
                "{} samples a second: expected 47000 to 49000",
                self.sound_rate
            )
        } else {
            return Ok(());
        };
        Err(Error::Options(problem))
    }

    /// Pictures from one key picture to the next.
    fn gop_pictures(&self) -> u64 {
        (self.gop.as_secs_f64() * f64::from(self.fps))
            .round()
            .max(1.0) as u64
    }

    fn metadata(&self) -> Metadata {
        let video = VideoMetadata {
            width: self.size.0,
            height: self.size.1,
            fps: f64::from(self.fps),
            bitrate: self.bitrate,
        };
        let audio = AudioMetadata {
            sample_rate: tone::SAMPLE_RATE,
            stereo: false,
            bitrate: tone::BITRATE,
        };
        Metadata {
            encoder: concat!("lhls/", env!("CARGO_PKG_VERSION")).to_owned(),
            video: Some(video),
            audio: self.audio.then_some(audio),
        }
    }
}

/// Publishes until `options.duration` is over, `cancel` fires, or the connection fails.
///
/// Returns before that only if the server cannot be reached or refuses the stream.
pub async fn publish(options: PublishOptions, cancel: CancellationToken) -> Result<Summary, Error> {
    options.check()?;
    let push = tokio::select! {
        push = push::connect(&options.url, &options.trust) => push?,
        () = cancel.cancelled() => return Ok(Summary::default()),
    };
    let (sender, receiver) = mpsc::channel(CHANNEL);
    // Fails only if the channel is full or closed, and it is new.
    let _ = sender.try_send(Media::Metadata(0, options.metadata().write()));

    // Whoever ends first ends the others: the makers by closing the channel, the connection by closing its end of it.
    let start = Start::now();
    let stop = cancel.child_token();
    let audio = options.audio.then(|| {
        tokio::spawn(send_tone(
            start,
            options.sound_rate,
            options.duration,
            sender.clone(),
            stop.clone(),
        ))
    });
    let video = tokio::task::spawn_blocking({
        let (options, stop) = (options.clone(), stop.clone());
        move || {
            // Without pictures the tone must not go on alone, not even after a panic.
            let guard = stop.clone().drop_guard();
            let summary = send_pictures(&options, start, &sender, &stop)?;
            guard.disarm();
            Ok::<_, encoder::Error>(summary)
        }
    });
    let sent = push.run(receiver, cancel).await;
    stop.cancel();
    let mut summary = video.await??;
    if let Some(audio) = audio {
        summary.audio_frames = audio.await?;
    }
    summary.bytes = sent?;
    Ok(summary)
}

/// One moment on both clocks.
#[derive(Debug, Clone, Copy)]
struct Start {
    instant: Instant,
    unix_us: u64,
}

impl Start {
    fn now() -> Self {
        Self {
            instant: Instant::now(),
            unix_us: unix_time().as_micros() as u64,
        }
    }
}

/// Draws, encodes and sends pictures; runs on a thread of its own.
fn send_pictures(
    options: &PublishOptions,
    start: Start,
    sender: &Sender<Media>,
    stop: &CancellationToken,
) -> Result<Summary, encoder::Error> {
    let mut picture = Picture::new(options.size.0 as usize, options.size.1 as usize);
    let mut encoder = VideoEncoder::new(options.fps, options.bitrate)?;
    let (fps, gop) = (u64::from(options.fps), options.gop_pictures());
    let slots = options
        .duration
        .map(|duration| (duration.as_secs_f64() * fps as f64).ceil() as u64);
    let mut summary = Summary::default();
    let mut busy = Duration::ZERO;
    let mut encoded = 0u32;
    let mut current_gop = None;
    let mut waiting_for_key = false;
    let mut config_sent = false;
    let mut slot = 0;
    while slots.is_none_or(|slots| slot < slots) {
        let due = start.instant + Duration::from_nanos(slot * 1_000_000_000 / fps);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if stop.is_cancelled() {
            break;
        }
        let begun = Instant::now();
        let latest = (begun - start.instant).as_nanos() as u64 * fps / 1_000_000_000;
        if latest > slot && begun.saturating_duration_since(due) > HURRY {
            summary.skipped += latest - slot;
            slot = latest;
            continue;
        }
        let timestamp = (slot * 1000 + fps / 2) / fps;
        let key = current_gop != Some(slot / gop);
        current_gop = Some(slot / gop);
        picture.draw(unix_time().as_millis() as u64, slot);
        let coded = encoder.encode(&picture, key, timestamp)?;
        busy += begun.elapsed();
        encoded += 1;
        slot += 1;

        if waiting_for_key && !coded.key {
            summary.dropped += 1;
            continue;
        }
        waiting_for_key = false;
        if let (false, Some(config)) = (config_sent, encoder.config()) {
            config_sent = sender
                .try_send(Media::Video(timestamp as u32, write::avc_header(&config)))
                .is_ok();
        }
        let mut data = stamp::write(unix_time().as_micros() as u64);
        data.extend_from_slice(&coded.data);
        let body = write::avc_picture(coded.key, 0, &data);
        match sender.try_send(Media::Video(timestamp as u32, body)) {
            Ok(()) => summary.pictures += 1,
            Err(TrySendError::Full(_)) => {
                warn!(
                    slot,
                    "the network does not keep up; dropping pictures up to the next key picture"
                );
                summary.dropped += 1;
                waiting_for_key = true;
            }
            Err(TrySendError::Closed(_)) => break,
        }
    }
    summary.mean_encode = busy.checked_div(encoded).unwrap_or_default();
    summary.elapsed = start.instant.elapsed();
    debug!(?summary, "the last picture is sent");
    Ok(summary)
}

/// Sends the tone, each frame when its last sample is due; returns how many.
async fn send_tone(
    start: Start,
    rate: u32,
    duration: Option<Duration>,
    sender: Sender<Media>,
    stop: CancellationToken,
) -> u64 {
    let tone = Tone::new();
    if sender
        .try_send(Media::Audio(0, write::aac_header(&tone.config())))
        .is_err()
    {
        return 0;
    }
    let first = tone::first_after(start.unix_us);
    let origin = tone::start_us(first).saturating_sub(start.unix_us);
    let since_start =
        |number| Duration::from_micros(origin + tone::length_us(number - first, rate));
    let mut sent = 0;
    for number in first.. {
        let (begin, end) = (since_start(number), since_start(number + 1));
        if duration.is_some_and(|duration| end > duration) {
            break;
        }
        tokio::select! {
            () = sleep_until((start.instant + end).into()) => {}
            () = stop.cancelled() => break,
        }
        // Rounded, so that times are as true as milliseconds can be.
        let timestamp = (begin.as_micros() as u64 + 500) / 1000;
        match sender.try_send(Media::Audio(
            timestamp as u32,
            write::aac_frame(&tone.frame(number)),
        )) {
            Ok(()) => sent += 1,
            Err(TrySendError::Full(_)) => {}
            Err(TrySendError::Closed(_)) => break,
        }
    }
    sent
}

fn unix_time() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// Longer ones make no sense for live streams, and their first viewer would wait as long.
const MAX_GOP: Duration = Duration::from_secs(60);
/// A picture that is later than this is left out. Less late ones are not: a hole costs players more than a late picture, and a machine on which
/// a browser is being started often is late.
const HURRY: Duration = Duration::from_millis(120);
/// Messages between the makers and the connection: about a second of both tracks.
const CHANNEL: usize = 80;

#[cfg(test)]
mod tests;
