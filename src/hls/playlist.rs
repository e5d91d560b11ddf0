//! Playlists as text (RFC 8216, section 4), and nothing else: plain values in, a string out.
//!
//! A media playlist comes in three forms. The early-announcing one ([`Media`]) lists finished segments, the growing one and the
//! announced ones as ordinary entries, so that any player starts near the live edge and never waits for a reload. The prefetch one
//! ([`Media::render_prefetch`]) marks those that are not finished, for players that know the tag. The low-latency one
//! ([`LowLatency`]) lists the parts of the same segments (draft-pantos-hls-rfc8216bis).

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

/// Content type of every playlist.
pub const CONTENT_TYPE: &str = "application/vnd.apple.mpegurl";

/// A media playlist.
#[derive(Debug, Clone, PartialEq)]
pub struct Media {
    /// TARGETDURATION, whole seconds.
    pub target_duration: u32,
    /// DISCONTINUITY-SEQUENCE.
    pub discontinuity_sequence: u64,
    /// Whether every segment starts with a key frame.
    pub independent_segments: bool,
    /// MEDIA-SEQUENCE of the first of `segments`.
    pub media_sequence: u64,
    /// The entries in order.
    pub segments: Vec<MediaSegment>,
    /// How many of `segments`, at the end, are not finished.
    pub unfinished: usize,
    /// Whether the stream has ended: adds ENDLIST.
    pub ended: bool,
}

/// A low-latency media playlist.
#[derive(Debug, Clone, PartialEq)]
pub struct LowLatency {
    /// TARGETDURATION, whole seconds.
    pub target_duration: u32,
    /// PART-TARGET. PART-HOLD-BACK is twice this, the least that is allowed.
    pub part_target: Duration,
    /// DISCONTINUITY-SEQUENCE.
    pub discontinuity_sequence: u64,
    /// MEDIA-SEQUENCE of the first of `segments`.
    pub media_sequence: u64,
    /// The finished segments and, last, the growing one.
    pub segments: Vec<(MediaSegment, Vec<MediaPart>)>,
    /// URI of the part that comes next; none when the stream has ended.
    pub hint: Option<String>,
}

/// An EXT-X-PART.
#[derive(Debug, Clone, PartialEq)]
pub struct MediaPart {
    /// Relative URI.
    pub uri: String,
    /// DURATION, never above PART-TARGET.
    pub duration: Duration,
    /// Whether it starts with a key frame.
    pub independent: bool,
}

/// An entry of a media playlist.
#[derive(Debug, Clone, PartialEq)]
pub struct MediaSegment {
    /// Relative URI.
    pub uri: String,
    /// EXTINF: true when the segment is finished, else the best guess.
    pub duration: Duration,
    /// PROGRAM-DATE-TIME of its first access unit, if it is to be told: it follows from the entry before too.
    pub date: Option<SystemTime>,
    /// Whether DISCONTINUITY stands in front of it.
    pub discontinuity: bool,
    /// Whether there is no media in it: GAP stands in front of it.
    pub gap: bool,
}

/// A multivariant playlist.
#[derive(Debug, Clone, PartialEq)]
pub struct Multivariant {
    /// The renditions, best first.
    pub variants: Vec<Variant>,
}

/// One rendition of a multivariant playlist.
#[derive(Debug, Clone, PartialEq)]
pub struct Variant {
    /// Relative URI of its media playlist.
    pub uri: String,
    /// Peak segment bit rate, bits per second.
    pub bandwidth: u64,
    /// Average bit rate, bits per second.
    pub average_bandwidth: u64,
    /// RFC 6381 entries, video first.
    pub codecs: Vec<String>,
    /// Width and height, pixels.
    pub resolution: Option<(u32, u32)>,
    /// Pictures per second.
    pub frame_rate: Option<f64>,
}

impl Media {
    /// The playlist's text, every entry alike.
    pub fn render(&self) -> String {
        self.render_entries(self.segments.len())
    }

    /// The text with the entries that are not finished as `EXT-X-PREFETCH`, two at the most, as community LHLS has it.
    pub fn render_prefetch(&self) -> String {
        let finished = self.segments.len().saturating_sub(self.unfinished);
        let mut text = self.render_entries(finished);
        for segment in self.segments.iter().skip(finished).take(2) {
            if segment.discontinuity {
                text.push_str("#EXT-X-PREFETCH-DISCONTINUITY\n");
            }
            line(&mut text, format_args!("#EXT-X-PREFETCH:{}", segment.uri));
        }
        text
    }

    fn render_entries(&self, count: usize) -> String {
        let gaps = self.segments.iter().any(|segment| segment.gap);
        let mut text = header(if gaps { VERSION_OF_GAP } else { 3 }, self.target_duration);
        line(
            &mut text,
            format_args!("#EXT-X-MEDIA-SEQUENCE:{}", self.media_sequence),
        );
        line(
            &mut text,
            format_args!(
                "#EXT-X-DISCONTINUITY-SEQUENCE:{}",
                self.discontinuity_sequence
            ),
        );
        if self.independent_segments {
            text.push_str("#EXT-X-INDEPENDENT-SEGMENTS\n");
        }
        for segment in self.segments.iter().take(count) {
            segment.render_start(&mut text);
            segment.render_end(&mut text);
        }
        if self.ended {
            text.push_str("#EXT-X-ENDLIST\n");
        }
        text
    }
}

impl MediaSegment {
    /// The tags in front of its parts.
    fn render_start(&self, text: &mut String) {
        if self.discontinuity {
            text.push_str("#EXT-X-DISCONTINUITY\n");
        }
        if let Some(date) = self.date {
            let date = iso8601(date);
            line(text, format_args!("#EXT-X-PROGRAM-DATE-TIME:{date}"));
        }
    }

    /// The tags behind its parts, and its URI.
    fn render_end(&self, text: &mut String) {
        if self.gap {
            text.push_str("#EXT-X-GAP\n");
        }
        line(
            text,
            format_args!("#EXTINF:{:.5},\n{}", self.duration.as_secs_f64(), self.uri),
        );
    }
}

impl LowLatency {
    /// The playlist's text. Parts are listed where they are given; the caller leaves out those of segments further from the end than
    /// three target durations.
    pub fn render(&self) -> String {
        let part_target = self.part_target.as_secs_f64();
        let gaps = self.segments.iter().any(|(segment, _)| segment.gap);
        let mut text = header(if gaps { VERSION_OF_GAP } else { 6 }, self.target_duration);
        line(
            &mut text,
            format_args!(
                "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK={:.3}",
                2.0 * part_target
            ),
        );
        line(
            &mut text,
            format_args!("#EXT-X-PART-INF:PART-TARGET={part_target:.3}"),
        );
        line(
            &mut text,
            format_args!("#EXT-X-MEDIA-SEQUENCE:{}", self.media_sequence),
        );
        line(
            &mut text,
            format_args!(
                "#EXT-X-DISCONTINUITY-SEQUENCE:{}",
                self.discontinuity_sequence
            ),
        );
        let growing = self
            .hint
            .as_ref()
            .and_then(|_| self.segments.len().checked_sub(1));
        for (index, (segment, parts)) in self.segments.iter().enumerate() {
            let is_growing = Some(index) == growing;
            if is_growing && parts.is_empty() {
                // Nothing of it exists yet, its date included.
                break;
            }
            segment.render_start(&mut text);
            for part in parts {
                let independent = if part.independent {
                    ",INDEPENDENT=YES"
                } else {
                    ""
                };
                let duration = part.duration.as_secs_f64();
                line(
                    &mut text,
                    format_args!(
                        "#EXT-X-PART:DURATION={duration:.5},URI=\"{}\"{independent}",
                        part.uri
                    ),
                );
            }
            if !is_growing {
                segment.render_end(&mut text);
            }
        }
        match &self.hint {
            Some(uri) => line(
                &mut text,
                format_args!("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{uri}\""),
            ),
            None => text.push_str("#EXT-X-ENDLIST\n"),
        }
        text
    }
}

impl Multivariant {
    /// The playlist's text.
    pub fn render(&self, independent_segments: bool) -> String {
        let mut text = String::from("#EXTM3U\n#EXT-X-VERSION:3\n");
        if independent_segments {
            text.push_str("#EXT-X-INDEPENDENT-SEGMENTS\n");
        }
        for variant in &self.variants {
            let _ = write!(
                text,
                "#EXT-X-STREAM-INF:BANDWIDTH={},AVERAGE-BANDWIDTH={},CODECS=\"{}\"",
                variant.bandwidth,
                variant.average_bandwidth,
                variant.codecs.join(",")
            );
            if let Some((width, height)) = variant.resolution {
                let _ = write!(text, ",RESOLUTION={width}x{height}");
            }
            if let Some(frame_rate) = variant.frame_rate {
                let _ = write!(text, ",FRAME-RATE={frame_rate:.3}");
            }
            line(&mut text, format_args!("\n{}", variant.uri));
        }
        text
    }
}

/// A playlist's text, rendered once and shared by everybody who asks; its compressed form is made when first asked for.
#[derive(Debug)]
pub struct Rendered {
    plain: Bytes,
    gzip: OnceLock<Bytes>,
}

impl Rendered {
    /// Takes the text over.
    pub fn new(text: String) -> Self {
        Self {
            plain: Bytes::from(text),
            gzip: OnceLock::new(),
        }
    }

    /// The text.
    pub fn plain(&self) -> &Bytes {
        &self.plain
    }

    /// The text as a gzip file (RFC 1952).
    pub fn gzip(&self) -> &Bytes {
        self.gzip.get_or_init(|| {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            // Writing into a vector cannot fail.
            let _ = encoder.write_all(&self.plain);
            Bytes::from(encoder.finish().unwrap_or_default())
        })
    }
}

/// ISO 8601 with milliseconds, UTC: `2026-01-31T23:59:59.125Z`. Times before 1970 come out as 1970.
pub fn iso8601(time: SystemTime) -> String {
    let since_epoch =
        time.duration_since(UNIX_EPOCH).unwrap_or_default() + Duration::from_micros(500);
    let (days, seconds) = (
        since_epoch.as_secs() / 86_400,
        since_epoch.as_secs() % 86_400,
    );
    let (year, month, day) = civil_date(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        since_epoch.subsec_millis()
    )
}

/// Year, month and day of a day counted from 1970-01-01, in the proleptic Gregorian calendar.
fn civil_date(days: u64) -> (u64, u64, u64) {
    // Counted from 0000-03-01, so that the leap day is a year's last and 400 years are one period.
    let days = days + 719_468;
    let (period, day_of_period) = (days / 146_097, days % 146_097);
    let year_of_period = (day_of_period - day_of_period / 1_460 + day_of_period / 36_524
        - day_of_period / 146_096)
        / 365;
    let day_of_year =
        day_of_period - (365 * year_of_period + year_of_period / 4 - year_of_period / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    (
        period * 400 + year_of_period + u64::from(month <= 2),
        month,
        day,
    )
}

/// The lines that every media playlist starts with.
fn header(version: u32, target_duration: u32) -> String {
    format!("#EXTM3U\n#EXT-X-VERSION:{version}\n#EXT-X-TARGETDURATION:{target_duration}\n")
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    let _ = writeln!(text, "{arguments}");
}

/// EXT-X-VERSION that EXT-X-GAP needs.
const VERSION_OF_GAP: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64, millis: u32) -> SystemTime {
        UNIX_EPOCH + Duration::new(seconds, millis * 1_000_000)
    }

    #[test]
    fn dates() {
        assert_eq!(iso8601(at(0, 0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(iso8601(at(951_782_399, 999)), "2000-02-28T23:59:59.999Z");
        assert_eq!(iso8601(at(951_782_400, 0)), "2000-02-29T00:00:00.000Z");
        assert_eq!(iso8601(at(1_795_219_200, 5)), "2026-11-21T00:00:00.005Z");
        assert_eq!(iso8601(at(4_107_542_400, 0)), "2100-03-01T00:00:00.000Z");
    }

    #[test]
    fn gzip_is_made_once_and_unpacks_to_the_text() {
        use std::io::Read;
        let rendered = Rendered::new("#EXTM3U\n".repeat(20));
        let mut text = String::new();
        flate2::read::GzDecoder::new(&rendered.gzip()[..])
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text.as_bytes(), &rendered.plain()[..]);
        assert_eq!(rendered.gzip().as_ptr(), rendered.gzip().as_ptr());
    }

    #[test]
    fn early_announcing_media_playlist() {
        let segment = |n: u64| MediaSegment {
            uri: format!("s-{n}.ts"),
            duration: Duration::from_millis(1001),
            date: Some(at(1_767_225_600 + n, 0)),
            discontinuity: n == 42,
            gap: false,
        };
        let playlist = Media {
            target_duration: 1,
            discontinuity_sequence: 3,
            independent_segments: true,
            media_sequence: 41,
            segments: (41..46).map(segment).collect(),
            unfinished: 3,
            ended: false,
        };
        assert_eq!(playlist.render(), include_str!("testdata/early.m3u8"));
        let ended = Media {
            ended: true,
            segments: playlist.segments[..2].to_vec(),
            ..playlist
        };
        assert_eq!(ended.render(), include_str!("testdata/ended.m3u8"));
    }

    #[test]
    fn low_latency_media_playlist() {
        let segment = |n: u64| MediaSegment {
            uri: format!("s-{n}.ts"),
            duration: Duration::from_millis(200),
            date: Some(at(1_767_225_600, 200 * n as u32)),
            discontinuity: n == 2,
            gap: false,
        };
        let part = |n: u64| MediaPart {
            uri: format!("s-p1-{n}.ts"),
            duration: Duration::from_nanos(66_666_667),
            independent: n.is_multiple_of(3),
        };
        let mut playlist = LowLatency {
            target_duration: 1,
            part_target: Duration::from_millis(67),
            discontinuity_sequence: 0,
            media_sequence: 1,
            segments: vec![
                (segment(1), Vec::new()),
                (segment(2), (6..9).map(part).collect()),
                (segment(3), (9..11).map(part).collect()),
            ],
            hint: Some("s-p1-11.ts".to_owned()),
        };
        assert_eq!(playlist.render(), include_str!("testdata/low_latency.m3u8"));
        playlist.hint = None;
        let text = playlist.render();
        assert!(
            text.ends_with("#EXTINF:0.20000,\ns-3.ts\n#EXT-X-ENDLIST\n"),
            "{text}"
        );
        playlist.hint = Some("s-p1-11.ts".to_owned());
        playlist.segments[2].1.clear();
        assert!(
            !playlist.render().contains("00.600Z"),
            "nothing of the growing segment exists yet"
        );
    }

    #[test]
    fn multivariant_playlist() {
        let variant = Variant {
            uri: "s.m3u8".to_owned(),
            bandwidth: 1_700_000,
            average_bandwidth: 1_500_000,
            codecs: vec!["avc1.64001f".to_owned(), "mp4a.40.2".to_owned()],
            resolution: Some((1280, 720)),
            frame_rate: Some(29.97),
        };
        let audio = Variant {
            resolution: None,
            frame_rate: None,
            codecs: vec!["mp4a.40.2".to_owned()],
            ..variant.clone()
        };
        let playlist = Multivariant {
            variants: vec![variant, audio],
        };
        assert_eq!(
            playlist.render(true),
            include_str!("testdata/multivariant.m3u8")
        );
    }
}
