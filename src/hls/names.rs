//! File names of playlists, segments and parts, written and read in one place.
//!
//! ```text
//!  media-2.m3u8       early-announcing media playlist with TARGETDURATION 2
//!  prefetch-2.m3u8    the same with prefetch tags
//!  ll3-2.m3u8         low-latency media playlist with parts of three base parts
//!  ID-1234.ts         segment with media sequence number 1234 of session ID
//!  ID-ll3-56.ts       part 56 of those of three base parts
//! ```
//!
//! A media playlist is named after its TARGETDURATION, the one thing that must never change in it. So a player that reloads it over a
//! restart of the server finds the stream's new session under the name it knows. An ID is unique over streams, sessions and restarts,
//! so the name of a segment or part never comes to mean other bytes.

/// What a file name asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum File<'a> {
    /// The early-announcing media playlist of the session with this TARGETDURATION.
    Media(u32),
    /// The same with prefetch tags.
    Prefetch(u32),
    /// The low-latency media playlist: base parts in a part, and TARGETDURATION.
    LowLatency(usize, u32),
    /// A segment: session and media sequence number.
    Segment(&'a str, u64),
    /// A part: session, base parts in it, and its number.
    Part(&'a str, usize, u64),
}

impl File<'_> {
    /// Whether it is a media playlist.
    pub fn is_playlist(&self) -> bool {
        matches!(
            self,
            Self::Media(_) | Self::Prefetch(_) | Self::LowLatency(..)
        )
    }
}

/// File name of a media playlist.
pub fn media_name(target_duration: u32) -> String {
    format!("media-{target_duration}.m3u8")
}

/// File name of a media playlist with prefetch tags.
pub fn prefetch_name(target_duration: u32) -> String {
    format!("prefetch-{target_duration}.m3u8")
}

/// File name of a low-latency playlist with parts of `factor` base parts.
pub fn low_latency_name(factor: usize, target_duration: u32) -> String {
    format!("ll{factor}-{target_duration}.m3u8")
}

/// File name of a segment.
pub fn segment_name(id: &str, sequence: u64) -> String {
    format!("{id}-{sequence}.ts")
}

/// File name of a part of `factor` base parts.
pub fn part_name(id: &str, factor: usize, number: u64) -> String {
    format!("{id}-ll{factor}-{number}.ts")
}

/// What a name asks for; `None` for names that were never given.
pub fn parse(name: &str) -> Option<File<'_>> {
    if let Some(name) = name.strip_suffix(".m3u8") {
        let (form, target_duration) = name.split_once('-')?;
        let target_duration = number(target_duration)?;
        return Some(match form {
            "media" => File::Media(target_duration),
            "prefetch" => File::Prefetch(target_duration),
            _ => File::LowLatency(number(form.strip_prefix("ll")?)?, target_duration),
        });
    }
    let (id, rest) = name.strip_suffix(".ts")?.split_once('-')?;
    Some(match rest.strip_prefix("ll") {
        Some(part) => {
            let (factor, part) = part.split_once('-')?;
            File::Part(id, number(factor)?, number(part)?)
        }
        None => File::Segment(id, number(rest)?),
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
            (media_name(2), File::Media(2)),
            (prefetch_name(2), File::Prefetch(2)),
            (low_latency_name(3, 2), File::LowLatency(3, 2)),
            (segment_name("a1", 0), File::Segment("a1", 0)),
            (part_name("a1", 3, 56), File::Part("a1", 3, 56)),
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
            "a-99999999999999999999.ts",
            "media.m3u8",
            "media-.m3u8",
            "media--1.m3u8",
            "ll-1.m3u8",
            "llx-1.m3u8",
            "a-ll1-.ts",
            "other-1.m3u8",
            "",
        ] {
            assert_eq!(parse(name), None, "{name}");
        }
    }
}
