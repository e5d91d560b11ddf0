//! Reads what a viewer needs out of anybody's playlists (RFC 8216, and draft-pantos-hls-rfc8216bis for parts and hints).
//!
//! Tolerant where that does no harm: unknown tags, missing versions, blank lines and CR LF are all right. Not here: renditions other
//! than variants, decryption, EXT-X-MAP; the last two are noted, so that it can be said why nothing is played.

use std::time::Duration;

/// Either kind of playlist.
#[derive(Debug, Clone, PartialEq)]
pub enum Playlist {
    /// References to media playlists, in the order listed.
    Multivariant(Vec<String>),
    /// Segments.
    Media(Media),
}

/// A media playlist.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Media {
    /// TARGETDURATION.
    pub target_duration: Duration,
    /// PART-TARGET, when the playlist has parts.
    pub part_target: Option<Duration>,
    /// Whether CAN-BLOCK-RELOAD is promised.
    pub can_block_reload: bool,
    /// The entries, in order; the last may be without a URI and have parts only.
    pub segments: Vec<Segment>,
    /// URI of the part announced by PRELOAD-HINT.
    pub hint: Option<String>,
    /// ENDLIST.
    pub ended: bool,
    /// Whether the segments are encrypted.
    pub encrypted: bool,
    /// Whether the segments have EXT-X-MAP: fragmented MP4.
    pub fragmented: bool,
    /// The number of the segment after the last.
    next_sequence: u64,
}

/// An entry of a media playlist.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Segment {
    /// Media sequence number.
    pub sequence: u64,
    /// Reference to the whole segment; none while only parts of it are listed.
    pub uri: Option<String>,
    /// The part of the resource it is.
    pub range: Option<ByteRange>,
    /// EXTINF.
    pub duration: Duration,
    /// PROGRAM-DATE-TIME, its own or counted on from an earlier entry's, in microseconds since 1970.
    pub date: Option<i64>,
    /// Whether it follows EXT-X-DISCONTINUITY.
    pub discontinuity: bool,
    /// Whether there is no media in it (EXT-X-GAP): it is not to be loaded.
    pub gap: bool,
    /// Whether it was announced with EXT-X-PREFETCH.
    pub prefetch: bool,
    /// The parts listed.
    pub parts: Vec<Part>,
}

/// An EXT-X-PART.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Part {
    /// Reference.
    pub uri: String,
    /// The part of the resource it is.
    pub range: Option<ByteRange>,
    /// DURATION.
    pub duration: Duration,
    /// INDEPENDENT=YES.
    pub independent: bool,
}

/// Bytes of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// Offset of the first.
    pub start: u64,
    /// How many.
    pub length: u64,
}

impl Playlist {
    /// Reads a playlist. `None` if the text is none.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim_start_matches('\u{feff}');
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        if !lines.next()?.starts_with("#EXTM3U") {
            return None;
        }
        if text.contains("#EXT-X-STREAM-INF:") {
            return Some(Self::Multivariant(variants(lines)));
        }
        let mut reader = Reader::default();
        lines.for_each(|line| reader.line(line));
        Some(Self::Media(reader.finish()))
    }
}

impl Media {
    /// The entry with this number.
    pub fn find(&self, sequence: u64) -> Option<&Segment> {
        let first = self.segments.first()?.sequence;
        let index = usize::try_from(sequence.checked_sub(first)?).ok()?;
        self.segments.get(index)
    }

    /// The number of the segment after the last entry.
    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// What is listed, in short, for logs: number, milliseconds, parts, and whether it is a gap or begins a new stretch.
    pub(super) fn outline(&self) -> Vec<String> {
        let entries = self.segments.iter().map(|segment| {
            format!(
                "{}:{}ms/{}{}{}",
                segment.sequence,
                segment.duration.as_millis(),
                segment.parts.len(),
                if segment.gap { " gap" } else { "" },
                if segment.discontinuity { " new" } else { "" },
            )
        });
        entries.collect()
    }

    /// Whether parts are listed or promised.
    pub fn has_parts(&self) -> bool {
        self.part_target.is_some()
    }
}

/// A media playlist being read.
#[derive(Debug, Default)]
struct Reader {
    media: Media,
    sequence: u64,
    current: Segment,
    duration_known: bool,
    /// Date at which the current segment begins if it has none of its own.
    expected_date: Option<i64>,
    /// End of the last byte range, which the next one may follow without saying so.
    range_end: u64,
    part_range_end: u64,
}

impl Reader {
    fn line(&mut self, line: &str) {
        if !line.starts_with('#') {
            if self.duration_known {
                self.current.uri = Some(line.to_owned());
                self.close();
            }
            return;
        }
        let (tag, value) = line.split_once(':').unwrap_or((line, ""));
        match tag {
            "#EXT-X-TARGETDURATION" => self.media.target_duration = seconds(value),
            "#EXT-X-MEDIA-SEQUENCE" => {
                self.sequence = value.trim().parse().unwrap_or(self.sequence);
            }
            "#EXTINF" => {
                self.current.duration = seconds(value.split(',').next().unwrap_or_default());
                self.duration_known = true;
            }
            "#EXT-X-PROGRAM-DATE-TIME" => self.current.date = unix_micros(value),
            "#EXT-X-DISCONTINUITY" => {
                self.current.discontinuity = true;
                self.expected_date = None;
            }
            "#EXT-X-BYTERANGE" => {
                let range = byte_range(value, self.range_end);
                self.range_end = range.map_or(0, |range| range.start.saturating_add(range.length));
                self.current.range = range;
            }
            "#EXT-X-SERVER-CONTROL" => {
                self.media.can_block_reload = attribute(value, "CAN-BLOCK-RELOAD") == Some("YES");
            }
            "#EXT-X-PART-INF" => {
                self.media.part_target = attribute(value, "PART-TARGET").map(seconds);
            }
            "#EXT-X-PART" => self.part(value),
            "#EXT-X-PRELOAD-HINT" => {
                // Hints at ranges are left out: what they lead to is known from the next reload.
                let whole = attribute(value, "BYTERANGE-START").is_none();
                if whole && attribute(value, "TYPE") == Some("PART") {
                    self.media.hint = attribute(value, "URI").map(str::to_owned);
                }
            }
            "#EXT-X-SKIP" => {
                let skipped = attribute(value, "SKIPPED-SEGMENTS");
                let skipped: u64 = skipped.and_then(|count| count.parse().ok()).unwrap_or(0);
                self.sequence = self.sequence.saturating_add(skipped);
            }
            "#EXT-X-GAP" => self.current.gap = true,
            "#EXT-X-PREFETCH-DISCONTINUITY" => self.current.discontinuity = true,
            "#EXT-X-PREFETCH" | "#EXT-X-TWITCH-PREFETCH" => {
                self.current.uri = Some(value.to_owned());
                self.current.prefetch = true;
                self.current.duration = self.media.target_duration;
                self.close();
            }
            "#EXT-X-ENDLIST" => self.media.ended = true,
            "#EXT-X-KEY" => {
                self.media.encrypted |= attribute(value, "METHOD").is_some_and(|m| m != "NONE");
            }
            "#EXT-X-MAP" => self.media.fragmented = true,
            _ => {}
        }
    }

    fn part(&mut self, value: &str) {
        let Some(uri) = attribute(value, "URI") else {
            return;
        };
        let range =
            attribute(value, "BYTERANGE").and_then(|range| byte_range(range, self.part_range_end));
        self.part_range_end = range.map_or(0, |range| range.start.saturating_add(range.length));
        self.current.parts.push(Part {
            uri: uri.to_owned(),
            range,
            duration: attribute(value, "DURATION").map_or(Duration::ZERO, seconds),
            independent: attribute(value, "INDEPENDENT") == Some("YES"),
        });
    }

    fn close(&mut self) {
        let mut segment = std::mem::take(&mut self.current);
        segment.sequence = self.sequence;
        segment.date = segment.date.or(self.expected_date);
        self.expected_date = segment
            .date
            .map(|date| date.saturating_add(segment.duration.as_micros() as i64));
        self.media.segments.push(segment);
        self.sequence = self.sequence.saturating_add(1);
        self.duration_known = false;
        self.part_range_end = 0;
    }

    fn finish(mut self) -> Media {
        self.media.next_sequence = self.sequence;
        if !self.current.parts.is_empty() {
            self.current.uri = None;
            let parts = self.current.parts.iter();
            self.current.duration = parts.map(|part| part.duration).sum();
            self.close();
            self.media.next_sequence = self.sequence;
        }
        self.media
    }
}

fn variants<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut wanted = false;
    let mut uris = Vec::new();
    for line in lines {
        if line.starts_with("#EXT-X-STREAM-INF:") {
            wanted = true;
        } else if !line.starts_with('#') && std::mem::take(&mut wanted) {
            uris.push(line.to_owned());
        }
    }
    uris
}

/// The value of an attribute, without its quotation marks.
fn attribute<'a>(list: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = list;
    loop {
        let (key, after) = rest.split_once('=')?;
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => {
                let (value, next) = quoted.split_once('"')?;
                (value, next.strip_prefix(',').unwrap_or(next))
            }
            None => after.split_once(',').unwrap_or((after, "")),
        };
        if key.trim() == name {
            return Some(value.trim());
        }
        rest = next;
    }
}

fn seconds(text: &str) -> Duration {
    let seconds: f64 = text.trim().parse().unwrap_or(0.0);
    Duration::try_from_secs_f64(seconds)
        .unwrap_or_default()
        .min(LONGEST)
}

/// `LENGTH` or `LENGTH@START`.
fn byte_range(text: &str, follows: u64) -> Option<ByteRange> {
    let (length, start) = match text.trim().split_once('@') {
        Some((length, start)) => (length, start.parse().ok()?),
        None => (text.trim(), follows),
    };
    let length = length.parse().ok().filter(|&length| length > 0)?;
    Some(ByteRange { start, length })
}

/// ISO 8601 as PROGRAM-DATE-TIME has it, with a zone; without one it is taken as UTC.
fn unix_micros(text: &str) -> Option<i64> {
    let (date, time) = text.trim().split_once(['T', 't', ' '])?;
    let mut fields = date.splitn(3, '-').map(|field| field.parse::<i64>().ok());
    let (year, month, day) = (fields.next()??, fields.next()??, fields.next()??);
    let zone_at = time.find(['Z', 'z', '+', '-']).unwrap_or(time.len());
    let (time, zone) = time.split_at(zone_at);
    let mut fields = time.splitn(3, ':');
    let hours: i64 = fields.next()?.parse().ok()?;
    let minutes: i64 = fields.next()?.parse().ok()?;
    let seconds: f64 = fields.next().unwrap_or("0").parse().ok()?;
    let plausible = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0..=24).contains(&hours)
        && (0..60).contains(&minutes)
        && (0.0..61.0).contains(&seconds);
    if !plausible {
        return None;
    }
    let offset_minutes = match zone.chars().next() {
        Some(sign @ ('+' | '-')) => {
            let digits: String = zone.chars().filter(char::is_ascii_digit).collect();
            let hours: i64 = digits.get(..2)?.parse().ok()?;
            let minutes: i64 = digits.get(2..4).unwrap_or("0").parse().ok()?;
            (hours * 60 + minutes) * if sign == '-' { -1 } else { 1 }
        }
        _ => 0,
    };
    let minutes = (days_since_1970(year, month, day) * 24 + hours) * 60 + minutes - offset_minutes;
    Some(minutes * 60_000_000 + (seconds * 1e6).round() as i64)
}

/// Days from 1970-01-01 in the Gregorian calendar. Years are counted from March, so that a leap day is the last of its year.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year / 4 - year / 100 + year / 400;
    365 * year + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

/// Longer than any segment, and short enough to be added up.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests;
