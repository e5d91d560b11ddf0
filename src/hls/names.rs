//! File names of playlists, segments and parts, written and read in one place.
//!
//! ```text
//!  ID.m3u8            early-announcing media playlist of session ID
//!  ID-prefetch.m3u8   the same with prefetch tags
//!  ID-ll3.m3u8        low-latency media playlist with parts of three base parts
//!  ID-1234.ts         segment with media sequence number 1234
//!  ID-ll3-56.ts       part 56 of those of three base parts
//! ```
//!
//! An ID is unique over streams, sessions and restarts of the server, so a name never comes to mean anything else.

/// What a file name asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum File {
    /// The early-announcing media playlist.
    Media,
    /// The media playlist with prefetch tags.
    Prefetch,
    /// The low-latency media playlist with parts of this many base parts.
    LowLatency(usize),
    /// The segment with this media sequence number.
    Segment(u64),
    /// A part: base parts in it, and its number.
    Part(usize, u64),
}

/// File name of a session's media playlist.
pub fn media_name(id: &str) -> String {
    format!("{id}.m3u8")
}

/// File name of a session's media playlist with prefetch tags.
pub fn prefetch_name(id: &str) -> String {
    format!("{id}-prefetch.m3u8")
}

/// File name of a session's low-latency playlist with parts of `factor` base parts.
pub fn low_latency_name(id: &str, factor: usize) -> String {
    format!("{id}-ll{factor}.m3u8")
}

/// File name of a segment.
pub fn segment_name(id: &str, sequence: u64) -> String {
    format!("{id}-{sequence}.ts")
}

/// File name of a part of `factor` base parts.
pub fn part_name(id: &str, factor: usize, number: u64) -> String {
    format!("{id}-ll{factor}-{number}.ts")
}

/// The session and the file of it that a name asks for.
pub fn parse(name: &str) -> Option<(&str, File)> {
    if let Some(name) = name.strip_suffix(".m3u8") {
        return Some(match name.split_once('-') {
            None => (name, File::Media),
            Some((id, "prefetch")) => (id, File::Prefetch),
            Some((id, form)) => (
                id,
                File::LowLatency(number(form.strip_prefix("ll")?)? as usize),
            ),
        });
    }
    let (id, rest) = name.strip_suffix(".ts")?.split_once('-')?;
    Some(match rest.strip_prefix("ll") {
        Some(part) => {
            let (factor, part) = part.split_once('-')?;
            (id, File::Part(number(factor)? as usize, number(part)?))
        }
        None => (id, File::Segment(number(rest)?)),
    })
}

/// One spelling a number: `+7` and `07` are not in names that we gave.
fn number(text: &str) -> Option<u64> {
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
            (media_name("a1"), File::Media),
            (prefetch_name("a1"), File::Prefetch),
            (low_latency_name("a1", 3), File::LowLatency(3)),
            (segment_name("a1", 0), File::Segment(0)),
            (part_name("a1", 3, 56), File::Part(3, 56)),
        ] {
            assert_eq!(parse(&name), Some(("a1", file)), "{name}");
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
            "a-ll.m3u8",
            "a-ll1-.ts",
            "a-x.m3u8",
            "",
        ] {
            assert_eq!(parse(name), None, "{name}");
        }
    }
}
