//! The playlists of every mode, word for word, made from access units of a publisher with a perfect clock.
//!
//! With `LHLS_WRITE_GOLDEN=1` in the environment the files are written instead of compared; read the difference before you commit it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use bytes::Bytes;
use lhls::codec::{aac, h264};
use lhls::hls::Now;
use lhls::hls::names::{Early, Listed};
use lhls::hls::output::Output;
use lhls::hls::packager::Packager;
use lhls::hls::playlist::Rendered;
use lhls::hls::session::Session;
use lhls::media::{AccessUnit, AudioConfig, Payload, Track, VideoConfig};
use lhls::time::Ticks;

use crate::common::playlist::Playlist;
use crate::common::server;

#[test]
fn early_announcing() {
    let mut studio = Studio::new(&[], true);
    studio.record(30, 130);
    compare("early", studio.session().media(Early::Usual).as_ref());
    compare(
        "multivariant",
        &studio.output.multivariant().unwrap().early[0],
    );
}

#[test]
fn early_announcing_of_half_seconds() {
    let mut studio = Studio::new(&["--segment-duration", "500ms"], true);
    studio.record(15, 130);
    compare(
        "early-half-second",
        studio.session().media(Early::Usual).as_ref(),
    );
}

#[test]
fn early_announcing_of_two_seconds() {
    let mut studio = Studio::new(&[], true);
    studio.record(60, 250);
    compare(
        "early-two-seconds",
        studio.session().media(Early::Usual).as_ref(),
    );
}

#[test]
fn sound_only() {
    let mut studio = Studio::new(&[], false);
    studio.record(1, 130);
    compare("sound-only", studio.session().media(Early::Usual).as_ref());
    compare(
        "sound-only-multivariant",
        &studio.output.multivariant().unwrap().early[0],
    );
}

#[test]
fn ended() {
    let mut studio = Studio::new(&[], true);
    studio.record(30, 130);
    let session = studio.session();
    studio.packager.end(studio.now());
    compare("ended", session.media(Early::Usual).as_ref());
}

#[test]
fn prefetch() {
    let mut studio = Studio::new(&[], true);
    studio.record(30, 190);
    compare("prefetch", &studio.session().prefetch());
}

#[test]
fn low_latency() {
    let mut studio = Studio::new(&[], true);
    studio.record(30, 160);
    let low_latency = studio.session().low_latency(0, Listed::Complete);
    compare("low-latency", low_latency.unwrap().as_ref());
    let forms = studio.output.multivariant().unwrap();
    compare(
        "low-latency-multivariant",
        forms.low_latency(None, Listed::Complete).unwrap(),
    );
}

fn compare(name: &str, rendered: &Rendered) {
    let text = std::str::from_utf8(rendered.plain()).unwrap();
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/golden");
    let path = folder.join(format!("{name}.m3u8"));
    if std::env::var_os("LHLS_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, golden, "{}", path.display());
    if name.ends_with("multivariant") {
        m3u8_rs::parse_master_playlist(text.as_bytes()).unwrap();
    } else {
        Playlist::parse(text);
    }
}

/// A publisher, its packager and what comes out.
struct Studio {
    packager: Packager,
    output: Arc<Output>,
    origin: Instant,
    /// 90 kHz since the start.
    time: i64,
    sounds: i64,
    video: bool,
}

impl Studio {
    fn new(options: &[&str], video: bool) -> Self {
        let output = Arc::new(Output::default());
        let settings = server::config(options).streams.packager;
        let mut packager = Packager::new(settings, Arc::clone(&output));
        if video {
            packager.configure_video(VideoConfig::H264(h264::Config {
                profile: 0x64,
                compatibility: 0,
                level: 0x1f,
                width: 1280,
                height: 720,
                frame_rate: None,
                sps: vec![Bytes::from_static(&[0x67, 0x64, 0, 0x1f, 1, 2, 3])],
                pps: vec![Bytes::from_static(&[0x68, 1, 2])],
                nal_length_size: 4,
            }));
        }
        // AAC-LC, 48 kHz, two channels.
        let config = aac::Config::parse(&[0x11, 0x90]).unwrap();
        packager.configure_audio(AudioConfig::Aac(config));
        Self {
            packager,
            output,
            origin: Instant::now(),
            time: 0,
            sounds: 0,
            video,
        }
    }

    fn now(&self) -> Now {
        let since = Ticks::new(self.time).as_duration();
        Now {
            instant: self.origin + since,
            wall: UNIX_EPOCH + Duration::from_secs(1_800_000_000) + since,
        }
    }

    /// The time of so many pictures at 30 a second, every `group`th a key frame, with the sound.
    fn record(&mut self, group: i64, pictures: i64) {
        for picture in 0..pictures {
            if self.video {
                let key = picture % group == 0;
                let (kind, size) = if key { (0x65, 20_000) } else { (0x41, 2000) };
                let mut unit = vec![0, 0, 1, kind];
                unit.resize(size, 0x55);
                let payload = Payload::H264(h264::NalUnits::annex_b(unit.into()));
                self.push(Track::Video, self.time, key, payload);
            }
            self.time += 3000;
            while self.sounds * 1920 < self.time {
                let payload = Payload::Aac(vec![0x21; 300].into());
                self.push(Track::Audio, self.sounds * 1920, true, payload);
                self.sounds += 1;
            }
        }
    }

    fn push(&mut self, track: Track, time: i64, key: bool, payload: Payload) {
        let time = Ticks::new(90_000 + time);
        let unit = AccessUnit {
            track,
            dts: time,
            pts: time,
            key,
            payload,
        };
        self.packager.push(unit, self.now());
    }

    fn session(&self) -> Arc<Session> {
        self.output.sessions().pop().expect("a session")
    }
}
