//! Known files, made when first asked for and kept beside the build: a moving test pattern and a beeping tone, coded by ffmpeg.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;

use tokio::sync::Mutex;

use super::tools::Tool;

/// What a file holds.
#[derive(Debug, Clone, Hash)]
pub(crate) struct Clip {
    pub(crate) seconds: u32,
    /// ffmpeg's notation, as in `30000/1001`.
    pub(crate) rate: &'static str,
    /// Pictures between key frames.
    pub(crate) gop: u32,
    /// Options of the video encoder beyond the usual; `None` for no video.
    pub(crate) video: Option<&'static [&'static str]>,
    /// Options that choose the audio encoder; `None` for no audio.
    pub(crate) audio: Option<&'static [&'static str]>,
}

impl Default for Clip {
    fn default() -> Self {
        Self {
            seconds: 5,
            rate: "30",
            gop: 30,
            video: Some(&[]),
            audio: Some(AAC),
        }
    }
}

impl Clip {
    /// The FLV file.
    pub(crate) async fn file(&self) -> PathBuf {
        static BUSY: Mutex<()> = Mutex::const_new(());
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let path = directory.join(format!("clip-{:016x}.flv", hasher.finish()));
        let _one_at_a_time = BUSY.lock().await;
        if !path.exists() {
            // Another process may be making the same file: each makes its own, and the last rename wins.
            let partial = path.with_extension(format!("{}.part", std::process::id()));
            let mut arguments = self.encoder_arguments(false);
            arguments.push(partial.display().to_string());
            Tool::ffmpeg(&arguments).succeed().await;
            std::fs::rename(&partial, &path).unwrap();
        }
        path
    }

    /// What makes ffmpeg encode this clip as FLV; only the target is missing. In real time, if wanted.
    pub(crate) fn encoder_arguments(&self, real_time: bool) -> Vec<String> {
        let Self {
            seconds, rate, gop, ..
        } = self;
        let mut arguments: Vec<String> = Vec::new();
        let mut add = |text: &str| arguments.extend(text.split(' ').map(str::to_owned));
        let read = if real_time { "-re " } else { "" };
        if self.video.is_some() {
            add(&format!(
                "{read}-f lavfi -i testsrc2=size=320x180:rate={rate}:duration={seconds}"
            ));
        }
        if self.audio.is_some() {
            add(&format!(
                "{read}-f lavfi -i sine=frequency=440:beep_factor=4:sample_rate=44100:duration={seconds}"
            ));
        }
        if let Some(options) = self.video {
            add(&format!(
                "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -threads 1 -g {gop} -keyint_min {gop} -sc_threshold 0"
            ));
            if options.is_empty() {
                add("-tune zerolatency");
            }
            options.iter().for_each(|option| add(option));
        }
        if let Some(options) = self.audio {
            options.iter().for_each(|option| add(option));
        }
        add("-f flv -flvflags no_duration_filesize");
        arguments
    }
}

pub(crate) const AAC: &[&str] = &["-c:a", "aac", "-b:a", "64k"];
