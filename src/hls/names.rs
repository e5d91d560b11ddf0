//! File names of playlists, segments and parts, written and read in one place.
//!
//! ```text
//!  media-2.m3u8       early-announcing media playlist with TARGETDURATION 2
//!  further-2.m3u8     the same with one segment more
//!  whole-2.m3u8       the same with segments that are sent whole
//!  prefetch-2.m3u8    the same with prefetch tags
//!  ll3-2.m3u8         low-latency media playlist with parts of three base parts
//!  join3-2.m3u8       the same, which at first lists the next few parts too
//!  short-2.m3u8       the same with each base part as a segment of its own
//!  ID-1234.ts         segment with media sequence number 1234 of session ID, sent as it grows
//!  ID-w1234.ts        the same bytes, sent when they are complete
//!  ID-ll3-56.ts       part 56 of those of three base parts
//!  ID-s3-56.ts        the same bytes as a segment of its own
//! ```
//!
//! A media playlist is named after its TARGETDURATION, the one thing that must never change in it. So a player that reloads it over a
//! restart of the server finds the stream's new session under the name it knows. An ID is unique over streams, sessions and restarts,
//! so the name of a segment or part never comes to mean other bytes.
//!
//! Whatever differs between players is in a name, not in a header of the request: a cache tells answers apart by name, and those that know
//! more get it wrong while an answer is still on its way.

/// What a file name asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum File<'a> {
    /// An early-announcing media playlist of the session with this TARGETDURATION.
    Media(Early, u32),
    /// The same with prefetch tags.
    Prefetch(u32),
    /// A low-latency media playlist: base parts in a part, and TARGETDURATION.
    LowLatency(Listed, usize, u32),
    /// A media playlist of short segments of the session with this TARGETDURATION.
    Short(u32),
    /// A segment: session and media sequence number.
    Segment(&'a str, u64),
    /// The same, to be sent when it is complete.
    WholeSegment(&'a str, u64),
    /// A part: session, base parts in it, and its number.
    Part(&'a str, usize, u64),
    /// The same as a short segment.
    ShortSegment(&'a str, usize, u64),
}

/// The early-announcing media playlists: the same media, each for other players.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Early {
    /// For any player: those that start three target durations from the end start on the growing segment.
    Usual,
    /// One segment more, for players that start three *segments* from the end and play from the first byte on, as those built on ffmpeg do:
    /// they start on the segment that comes next, and so play what is new and not what the growing segment has gathered so far.
    Further,
    /// With segments that are sent whole, for players that make nothing of a segment before its last byte.
    Whole,
}

/// Which parts a low-latency playlist lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listed {
    /// Those that are complete, as the specification has it.
    Complete,
    /// Also the next few, for a player that joins. Players fix how far they stay behind the end of the first playlist they see, and then
    /// spend some tenths of a second on starting; without these they would be that much later for good. A reload that names what it
    /// waits for lists complete parts under this name too. After an outage it starts anew behind it.
    Joining,
}

impl Listed {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 2] = [Self::Complete, Self::Joining];

    /// Where it is in [`Self::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }
}

impl Early {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Usual, Self::Further, Self::Whole];

    /// Where it is in [`Self::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }
}

impl File<'_> {
    /// Whether it is a media playlist.
    pub fn is_playlist(&self) -> bool {
        matches!(
            self,
            Self::Media(..) | Self::Prefetch(_) | Self::LowLatency(..) | Self::Short(_)
        )
    }
}

/// File name of an early-announcing media playlist.
pub fn media_name(early: Early, target_duration: u32) -> String {
    let form = match early {
        Early::Usual => "media",
        Early::Further => "further",
        Early::Whole => "whole",
    };
    format!("{form}-{target_duration}.m3u8")
}

/// File name of a media playlist with prefetch tags.
pub fn prefetch_name(target_duration: u32) -> String {
    format!("prefetch-{target_duration}.m3u8")
}

/// File name of a low-latency playlist with parts of `factor` base parts.
pub fn low_latency_name(listed: Listed, factor: usize, target_duration: u32) -> String {
    let form = match listed {
        Listed::Complete => "ll",
        Listed::Joining => "join",
    };
    format!("{form}{factor}-{target_duration}.m3u8")
}

/// File name of a media playlist of short segments.
pub fn short_name(target_duration: u32) -> String {
    format!("short-{target_duration}.m3u8")
}

/// File name of a segment.
pub fn segment_name(id: &str, sequence: u64) -> String {
    format!("{id}-{sequence}.ts")
}

/// File name of a segment that is sent when it is complete.
pub fn whole_segment_name(id: &str, sequence: u64) -> String {
    format!("{id}-w{sequence}.ts")
}

/// File name of a part of `factor` base parts.
pub fn part_name(id: &str, factor: usize, number: u64) -> String {
    format!("{id}-ll{factor}-{number}.ts")
}

/// File name of a part of `factor` base parts as a short segment.
pub fn short_segment_name(id: &str, factor: usize, number: u64) -> String {
    format!("{id}-s{factor}-{number}.ts")
}

/// What a name asks for; `None` for names that were never given.
pub fn parse(name: &str) -> Option<File<'_>> {
    if let Some(name) = name.strip_suffix(".m3u8") {
        let (form, target_duration) = name.split_once('-')?;
        let target_duration = number(target_duration)?;
        return Some(match form {
            "media" => File::Media(Early::Usual, target_duration),
            "further" => File::Media(Early::Further, target_duration),
            "whole" => File::Media(Early::Whole, target_duration),
            "prefetch" => File::Prefetch(target_duration),
            "short" => File::Short(target_duration),
            _ => {
                let (listed, factor) = match form.strip_prefix("ll") {
                    Some(factor) => (Listed::Complete, factor),
                    None => (Listed::Joining, form.strip_prefix("join")?),
                };
                File::LowLatency(listed, number(factor)?, target_duration)
            }
        });
    }
    let (id, rest) = name.strip_suffix(".ts")?.split_once('-')?;
    let numbered = |rest: &str| {
        let (factor, part) = rest.split_once('-')?;
        Some((number(factor)?, number(part)?))
    };
    Some(if let Some(rest) = rest.strip_prefix("ll") {
        let (factor, part) = numbered(rest)?;
        File::Part(id, factor, part)
    } else if let Some(rest) = rest.strip_prefix('s') {
        let (factor, part) = numbered(rest)?;
        File::ShortSegment(id, factor, part)
    } else if let Some(rest) = rest.strip_prefix('w') {
        File::WholeSegment(id, number(rest)?)
    } else {
        File::Segment(id, number(rest)?)
    })
}

/// One spelling a number: `+7` and `07` are not in names that we gave.
fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit())
        && (text.len() == 1 || !text.starts_with('0'));
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for (name, file) in [
            (media_name(Early::Usual, 2), File::Media(Early::Usual, 2)),
            (
                media_name(Early::Further, 2),
                File::Media(Early::Further, 2),
            ),
            (media_name(Early::Whole, 2), File::Media(Early::Whole, 2)),
            (prefetch_name(2), File::Prefetch(2)),
            (
                low_latency_name(Listed::Complete, 3, 2),
                File::LowLatency(Listed::Complete, 3, 2),
            ),
            (
                low_latency_name(Listed::Joining, 3, 2),
                File::LowLatency(Listed::Joining, 3, 2),
            ),
            (segment_name("a1", 0), File::Segment("a1", 0)),
            (whole_segment_name("a1", 7), File::WholeSegment("a1", 7)),
            (part_name("a1", 3, 56), File::Part("a1", 3, 56)),
            (short_name(2), File::Short(2)),
            (
                short_segment_name("a1", 3, 56),
                File::ShortSegment("a1", 3, 56),
            ),
        ] {
            assert_eq!(parse(&name), Some(file), "{name}");
        }
    }

    #[test]
    fn other_names_mean_nothing() {
        for name in [
            "a-+7.ts",
            "a-07.ts",
            "a-7.mp4",
            "a.ts",
            "a-.ts",
            "a-w.ts",
            "a-w07.ts",
            "a-99999999999999999999.ts",
            "media.m3u8",
            "media-.m3u8",
            "media--1.m3u8",
            "ll-1.m3u8",
            "llx-1.m3u8",
            "a-ll1-.ts",
            "a-s1-.ts",
            "a-s7.ts",
            "short-.m3u8",
            "other-1.m3u8",
            "",
        ] {
            assert_eq!(parse(name), None, "{name}");
        }
    }
}
