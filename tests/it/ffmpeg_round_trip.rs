//! ffmpeg publishes, ffmpeg plays: every picture and every frame of sound is there, in order, at its time, and decodes without a
//! warning.

use crate::common::media::Clip;
use crate::common::server::TestServer;
use crate::common::tools::Tool;

#[tokio::test(flavor = "multi_thread")]
async fn picture_and_sound() {
    round_trip(&Clip::default(), "live/round-trip").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b_frames() {
    let clip = Clip {
        video: Some(&["-bf 2 -b_strategy 0 -tune animation"]),
        ..Clip::default()
    };
    round_trip(&clip, "live/round-trip-b").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_second_segments() {
    let clip = Clip {
        gop: 15,
        ..Clip::default()
    };
    let server = TestServer::with(&["--segment-duration", "500ms"]);
    run(&server, &clip, "live/half").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sound_only() {
    let clip = Clip {
        video: None,
        ..Clip::default()
    };
    round_trip(&clip, "live/round-trip-sound").await;
}

async fn round_trip(clip: &Clip, name: &str) {
    let server = TestServer::start();
    run(&server, clip, name).await;
    server.stop().await;
}

async fn run(server: &TestServer, clip: &Clip, name: &str) {
    let file = clip.file().await.display().to_string();
    let url = server.rtmp_url(name);
    let publisher = [
        "-re",
        "-i",
        &file,
        "-c",
        "copy",
        "-f",
        "flv",
        "-flvflags",
        "no_duration_filesize",
        &url,
    ];
    let publisher = Tool::ffmpeg(&publisher);
    server.wait_for_publisher(name).await;
    // From the first segment, since this is about completeness; not the short ones, which start with the next key frame.
    let playlist = format!("{}?segments", server.playlist_url(name));
    let player = decode(&["-live_start_index", "0", "-i", &playlist], clip);
    let reference = decode(&["-i", &file], clip);
    let expected = Frames::parse(&reference.succeed_silently().await);
    let player = player.finish().await;
    // A player that asks for an announced segment which the end has withdrawn is told so, and says so.
    let complaint = |line: &&str| !line.contains("404") && !line.contains("Failed to open segment");
    let complaints: Vec<&str> = player.stderr.lines().filter(complaint).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
    assert_eq!(player.code, Some(0));
    publisher.succeed_silently().await;
    let played = Frames::parse(&player.stdout);

    let (from, to) = (expected.0[0].time, played.0[0].time);
    let mut rest = played.0.into_iter().peekable();
    let mut matched = 0;
    for frame in expected.0 {
        let found = rest.next_if(|other| {
            let off = (other.time - to) - (frame.time - from);
            let exact = if frame.is_video { 0.000_02 } else { 0.0016 };
            other.stream == frame.stream && off.abs() < exact
        });
        let Some(found) = found else {
            // Sound from before the first picture has nothing to be heard with.
            assert!(
                !frame.is_video && frame.time < from,
                "{frame:?} did not come out; next is {:?}",
                rest.peek()
            );
            continue;
        };
        matched += 1;
        // AAC has noise that depends on how much was decoded before, so sound that starts later decodes differently.
        assert!(
            found.hash == frame.hash || !frame.is_video && clip.video.is_some(),
            "{frame:?} came out as {found:?}"
        );
    }
    assert_eq!(
        rest.next().map(|_| matched),
        None,
        "more came out than went in"
    );
}

/// ffmpeg that decodes its input and lists every frame, video first, with time and checksum.
fn decode(input: &[&str], clip: &Clip) -> Tool {
    let mut arguments = vec!["-copyts"];
    arguments.extend(input);
    for (wanted, selector) in [(clip.video.is_some(), "0:v"), (clip.audio.is_some(), "0:a")] {
        if wanted {
            arguments.extend(["-map", selector]);
        }
    }
    arguments.extend(["-fps_mode", "passthrough", "-enc_time_base", "-1"]);
    arguments.extend(["-f", "framemd5", "-"]);
    Tool::ffmpeg(&arguments)
}

struct Frames(Vec<Frame>);

#[derive(Debug)]
struct Frame {
    stream: usize,
    is_video: bool,
    /// Seconds.
    time: f64,
    hash: String,
}

impl Frames {
    fn parse(text: &str) -> Self {
        let mut bases = Vec::new();
        let mut video = Vec::new();
        let mut frames = Vec::new();
        for line in text.lines() {
            if let Some(base) = line.strip_prefix("#tb ") {
                let (numerator, denominator) =
                    base.split_once(": ").unwrap().1.split_once('/').unwrap();
                let number = |text: &str| text.parse::<f64>().unwrap();
                bases.push(number(numerator) / number(denominator));
            } else if let Some(kind) = line.strip_prefix("#media_type ") {
                video.push(kind.ends_with("video"));
            } else if !line.starts_with('#') {
                let fields: Vec<&str> = line.split(',').map(str::trim).collect();
                let stream: usize = fields[0].parse().unwrap();
                frames.push(Frame {
                    stream,
                    is_video: video[stream],
                    time: fields[2].parse::<f64>().unwrap() * bases[stream],
                    hash: fields[5].to_owned(),
                });
            }
        }
        frames.sort_by_key(|frame| frame.stream);
        Self(frames)
    }
}
