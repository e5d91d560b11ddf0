//! What is wrong with a stream, and which of the encoder's settings makes it right.
//!
//! Judged from what arrives, not from what metadata promises. Each warning has a code for programmes, a text with the figure that led
//! to it, and the names of the settings as OBS Studio (31) shows them.

use std::time::Duration;

use super::health::{Second, Snapshot};
use crate::codec::h264::Sampling;

/// Something to put right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// For programmes; one of a fixed set.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What was found.
    pub text: String,
    /// What to set in OBS.
    pub obs: String,
}

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It may be intended.
    Notice,
    /// Viewers get a worse stream than they could.
    Warning,
    /// Some viewers get nothing.
    Error,
}

impl Severity {
    /// The word for it in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// What warnings are judged by.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The statistics.
    pub snapshot: &'a Snapshot,
    /// What segments are meant to last.
    pub segment_duration: Duration,
    /// Whether the stream can be watched.
    pub playable: bool,
    /// How the video is sampled, if known.
    pub sampling: Option<Sampling>,
    /// Repairs of times in this run, and how long ago the last one was.
    pub repairs: (u64, Option<Duration>),
}

impl Facts<'_> {
    /// Everything that is wrong, worst first. Nobody publishing is not among it.
    pub fn warnings(&self) -> Vec<Warning> {
        let found = [
            self.sampling(),
            self.no_key_frame(),
            self.long_gop(),
            self.b_frames(),
            self.late_upload(),
            self.timestamps(),
            self.skipped(),
            self.unstable_bit_rate(),
            self.tracks(),
        ];
        let mut warnings: Vec<Warning> = found.into_iter().flatten().collect();
        warnings.sort_by_key(|warning| std::cmp::Reverse(warning.severity));
        warnings
    }

    fn sampling(&self) -> Option<Warning> {
        let sampling = self.sampling.filter(|sampling| !sampling.is_common())?;
        Some(Warning {
            code: "chroma",
            severity: Severity::Error,
            text: format!(
                "The video is {sampling}. Browsers and phones show 4:2:0 in 8 bits only; most viewers see nothing."
            ),
            obs: "Settings → Advanced → Video: Color Format NV12 (8-bit, 4:2:0). \
                  With Output Mode Advanced, Settings → Output → Streaming: Profile high."
                .to_owned(),
        })
    }

    fn no_key_frame(&self) -> Option<Warning> {
        let snapshot = self.snapshot;
        (!self.playable && snapshot.run_seconds > NO_KEY_FRAME).then(|| Warning {
            code: "not_playable",
            severity: Severity::Error,
            text: format!(
                "The encoder has been sending for {} s, but there is nothing to play yet: no second key frame has come.",
                snapshot.run_seconds
            ),
            obs: format!("Settings → Output → Streaming: Keyframe Interval {}.", self.interval()),
        })
    }

    fn long_gop(&self) -> Option<Warning> {
        let snapshot = self.snapshot;
        let run = &snapshot.history[snapshot.history.len() - snapshot.run_seconds..];
        let mut lengths: Vec<Duration> = run
            .iter()
            .map(|second| second.gop.as_duration())
            .filter(|gop| !gop.is_zero())
            .collect();
        lengths.sort();
        // A picture that was left out, or a scene that was cut, makes a single group longer or shorter; one in five is no accident.
        let usual = lengths.get(lengths.len() * 4 / 5).copied();
        let growing = snapshot
            .longest_gop
            .filter(|gop| *gop > self.segment_duration * 2);
        let gop = usual.max(growing)?;
        (gop > self.segment_duration.mul_f64(TOLERANCE)).then(|| Warning {
            code: "long_gop",
            severity: Severity::Warning,
            text: format!(
                "A key frame comes every {:.1} s, but segments are to be {:.1} s: every viewer is later by the difference, and \
                 waits longer for the first picture.",
                gop.as_secs_f64(),
                self.segment_duration.as_secs_f64()
            ),
            obs: format!(
                "Settings → Output → Streaming: Keyframe Interval {}. 0 means automatic, which is up to 8 s.",
                self.interval()
            ),
        })
    }

    fn b_frames(&self) -> Option<Warning> {
        self.snapshot.reordered.then(|| Warning {
            code: "b_frames",
            severity: Severity::Warning,
            text: "The encoder uses B-frames: each one in a row adds a picture of delay before anything is sent.".to_owned(),
            obs: "Settings → Output → Streaming. x264: Tune zerolatency, or x264 Options bframes=0. \
                  NVENC, AMD, QuickSync: B-Frames 0, Tuning Ultra Low Latency where there is one. Apple: Use B-Frames off."
                .to_owned(),
        })
    }

    fn late_upload(&self) -> Option<Warning> {
        let recent = recent(self.snapshot);
        let late = recent
            .iter()
            .filter(|second| second.late.as_duration() > LATE)
            .count();
        let worst = recent.iter().map(|second| second.late).max()?;
        (late >= LATE_SECONDS).then(|| Warning {
            code: "late_upload",
            severity: Severity::Warning,
            text: format!(
                "The encoder's upload stalls: pictures came up to {} ms late in {late} of the last {} seconds.",
                worst.as_duration().as_millis(),
                recent.len()
            ),
            obs: "Settings → Output → Streaming: a lower Bitrate, three quarters of what the line carries at most. \
                  Settings → Advanced → Network: Dynamically change bitrate to manage congestion. A cable is better than Wi-Fi."
                .to_owned(),
        })
    }

    fn timestamps(&self) -> Option<Warning> {
        let (count, last) = self.repairs;
        let last = last.filter(|ago| *ago < REPAIRS_MATTER)?;
        Some(Warning {
            code: "timestamps_repaired",
            severity: Severity::Warning,
            text: format!(
                "The encoder's timestamps were wrong and had to be repaired {count} times, last {} s ago: sound and picture may be \
                 apart, or jump.",
                last.as_secs()
            ),
            obs: "Settings → Audio → General: Sample Rate as in the system's sound settings (48 kHz). Audio Mixer → source → \
                  Properties: Use Device Timestamps off. Then stop and start streaming."
                .to_owned(),
        })
    }

    fn skipped(&self) -> Option<Warning> {
        let recent = recent(self.snapshot);
        let skipped: u32 = recent.iter().map(|second| second.skipped).sum();
        let pictures: u32 = recent.iter().map(|second| second.pictures).sum();
        (skipped > SKIPPED_LEAST && skipped * SKIPPED_SHARE > pictures).then(|| Warning {
            code: "skipped_pictures",
            severity: Severity::Warning,
            text: format!(
                "About {skipped} pictures are missing in the last {} s: the encoder does not keep up, or its source is uneven.",
                recent.len()
            ),
            obs: "Docks → Stats shows which frames are missed. Encoding lag: a faster CPU Usage Preset or a hardware encoder in \
                  Settings → Output. Rendering lag: Settings → Video: a lower Output (Scaled) Resolution or Common FPS Values."
                .to_owned(),
        })
    }

    fn unstable_bit_rate(&self) -> Option<Warning> {
        let (low, high) = spread(self.snapshot)?;
        (high > low * SPREAD && high > SPREAD_LEAST).then(|| Warning {
            code: "unstable_bitrate",
            severity: Severity::Notice,
            text: format!(
                "The bit rate is uneven, between {:.0} and {:.0} kb/s: bursts take longer on viewers' lines and lead to stalls.",
                low / 1000.0,
                high / 1000.0
            ),
            obs: "Settings → Output → Streaming: Rate Control CBR.".to_owned(),
        })
    }

    fn tracks(&self) -> Option<Warning> {
        let snapshot = self.snapshot;
        if snapshot.run_seconds < TRACKS_COME_WITHIN || snapshot.audio == snapshot.video {
            return None;
        }
        let (code, text, obs) = if snapshot.video {
            (
                "no_audio",
                "There is no sound.",
                "Settings → Output → Streaming: tick an Audio Track, and in the Audio Mixer (Advanced Audio Properties) the same track \
                 for a source. Settings → Output → Streaming: Audio Encoder AAC.",
            )
        } else {
            (
                "no_video",
                "There is no picture, only sound.",
                "Settings → Output → Streaming: a Video Encoder for H.264. Sources: something to show.",
            )
        };
        Some(Warning {
            code,
            severity: Severity::Notice,
            text: text.to_owned(),
            obs: obs.to_owned(),
        })
    }

    /// The key frame interval that suits the segments. OBS takes whole seconds; shorter ones go through the encoder's own options.
    fn interval(&self) -> String {
        match self.segment_duration.as_secs() {
            0 => {
                let rate = self.snapshot.frame_rate.round().max(1.0);
                let pictures = (rate * self.segment_duration.as_secs_f64())
                    .round()
                    .max(1.0);
                format!("1 s, or less by x264 Options keyint={pictures:.0}")
            }
            seconds => format!("{seconds} s"),
        }
    }
}

/// The last half minute of the run, less its first second.
fn recent(snapshot: &Snapshot) -> &[Second] {
    let whole = snapshot.run_seconds.saturating_sub(1).min(LOOK_BACK);
    &snapshot.history[snapshot.history.len() - whole..]
}

/// The bit rates, in bits a second, that one stretch in ten is below and above. A stretch is as long as a group of pictures at least,
/// since a key frame weighs as much as many others. `None` while there are too few.
fn spread(snapshot: &Snapshot) -> Option<(f64, f64)> {
    let whole = snapshot
        .run_seconds
        .saturating_sub(1)
        .min(snapshot.history.len());
    let seconds = &snapshot.history[snapshot.history.len() - whole..];
    let stretch = (snapshot.gop?.as_secs_f64().ceil() as usize).max(2);
    let mut rates: Vec<f64> = seconds
        .chunks_exact(stretch)
        .map(|seconds| {
            let bytes: u64 = seconds
                .iter()
                .map(|second| u64::from(second.video_bytes))
                .sum();
            bytes as f64 * 8.0 / stretch as f64
        })
        .collect();
    if rates.len() < STRETCHES {
        return None;
    }
    rates.sort_by(f64::total_cmp);
    let tenth = rates.len() / 10;
    Some((rates[tenth], rates[rates.len() - 1 - tenth]))
}

/// Seconds without a playable stream before that is said: the first group of pictures may last twelve.
const NO_KEY_FRAME: usize = 13;
/// Over the wanted length of segments; less is not worth a word.
const TOLERANCE: f64 = 1.2;
/// A delay of the upload that players' buffers notice.
const LATE: Duration = Duration::from_millis(250);
/// In so many of the last seconds.
const LATE_SECONDS: usize = 3;
const LOOK_BACK: usize = 30;
/// Repairs older than this are history.
const REPAIRS_MATTER: Duration = Duration::from_secs(120);
/// Single pictures are left out now and then by the best of encoders; one in fifty is seen.
const SKIPPED_LEAST: u32 = 5;
const SKIPPED_SHARE: u32 = 50;
/// Ratio of high to low bit rates. Constant bit rate keeps well below 1.5.
const SPREAD: f64 = 2.5;
/// Bits per second below which nobody's line minds.
const SPREAD_LEAST: f64 = 1_000_000.0;
/// Stretches that say something.
const STRETCHES: usize = 5;
/// A track that has not come by then will not.
const TRACKS_COME_WITHIN: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Ticks;

    /// Half a minute of a stream without fault.
    fn faultless() -> Snapshot {
        let second = Second {
            video_bytes: 300_000,
            audio_bytes: 16_000,
            pictures: 30,
            gop: Ticks::from_millis(1000),
            ..Second::default()
        };
        Snapshot {
            history: vec![second; 30],
            run_seconds: 30,
            bit_rates: (2_400_000.0, 128_000.0),
            frame_rate: 30.0,
            gop: Some(Duration::from_secs(1)),
            gop_pictures: 30,
            longest_gop: Some(Duration::from_secs(1)),
            reordered: false,
            delivery: None,
            late: Duration::ZERO,
            audio: true,
            video: true,
        }
    }

    fn facts(snapshot: &Snapshot) -> Facts<'_> {
        Facts {
            snapshot,
            segment_duration: Duration::from_secs(1),
            playable: true,
            sampling: Some(Sampling {
                chroma_format: 1,
                bit_depth: 8,
            }),
            repairs: (0, None),
        }
    }

    fn codes(facts: Facts<'_>) -> Vec<&'static str> {
        facts
            .warnings()
            .iter()
            .map(|warning| warning.code)
            .collect()
    }

    #[test]
    fn a_faultless_stream_has_no_warning() {
        assert_eq!(codes(facts(&faultless())), [""; 0]);
    }

    #[test]
    fn each_fault_has_its_warning() {
        type Spoil = fn(&mut Snapshot);
        let cases: [(&str, Spoil); 6] = [
            ("long_gop", |stream| long_groups(stream, 1500)),
            ("b_frames", |stream| stream.reordered = true),
            ("late_upload", |stream| {
                for second in &mut stream.history[20..24] {
                    second.late = Ticks::from_millis(600);
                }
            }),
            ("skipped_pictures", |stream| {
                for second in &mut stream.history {
                    second.skipped = 2;
                }
            }),
            ("unstable_bitrate", |stream| {
                for second in &mut stream.history[..10] {
                    second.video_bytes = 30_000;
                }
            }),
            ("no_audio", |stream| stream.audio = false),
        ];
        for (code, spoil) in cases {
            let mut snapshot = faultless();
            spoil(&mut snapshot);
            assert_eq!(codes(facts(&snapshot)), [code]);
        }
        let snapshot = faultless();
        let sampling = Some(Sampling {
            chroma_format: 3,
            bit_depth: 8,
        });
        assert_eq!(
            codes(Facts {
                sampling,
                ..facts(&snapshot)
            }),
            ["chroma"]
        );
        let repairs = (3, Some(Duration::from_secs(10)));
        assert_eq!(
            codes(Facts {
                repairs,
                ..facts(&snapshot)
            }),
            ["timestamps_repaired"]
        );
        assert_eq!(
            codes(Facts {
                playable: false,
                ..facts(&snapshot)
            }),
            ["not_playable"]
        );
    }

    fn long_groups(stream: &mut Snapshot, millis: i64) {
        for second in &mut stream.history {
            second.gop = Ticks::from_millis(millis);
        }
        stream.longest_gop = Some(Duration::from_millis(millis as u64));
    }

    #[test]
    fn a_group_that_is_long_by_accident_is_none() {
        let mut snapshot = faultless();
        snapshot.history[7].gop = Ticks::from_millis(1900);
        snapshot.longest_gop = Some(Duration::from_millis(1900));
        assert_eq!(codes(facts(&snapshot)), [""; 0]);
    }

    #[test]
    fn a_group_that_does_not_end_is_long() {
        let mut snapshot = faultless();
        snapshot.gop = None;
        snapshot.longest_gop = Some(Duration::from_secs(7));
        assert_eq!(codes(facts(&snapshot)), ["long_gop"]);
    }

    #[test]
    fn the_advice_for_short_segments_is_in_pictures() {
        let mut snapshot = faultless();
        long_groups(&mut snapshot, 2000);
        let segment_duration = Duration::from_millis(500);
        let warnings = Facts {
            segment_duration,
            ..facts(&snapshot)
        }
        .warnings();
        assert!(warnings[0].obs.contains("keyint=15"), "{}", warnings[0].obs);
    }

    #[test]
    fn a_long_group_is_no_uneven_bit_rate() {
        let mut snapshot = faultless();
        (snapshot.gop, snapshot.longest_gop) =
            (Some(Duration::from_secs(5)), Some(Duration::from_secs(5)));
        for (i, second) in snapshot.history.iter_mut().enumerate() {
            second.video_bytes = if i % 5 == 0 { 900_000 } else { 150_000 };
        }
        assert_eq!(codes(facts(&snapshot)), ["long_gop"]);
    }
}
