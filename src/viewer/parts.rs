//! Follows parts as an LL-HLS player does (draft-pantos-hls-rfc8216bis, 6.2.5 and 6.3).
//!
//! The part that comes next is asked for ahead, by its preload hint, and answered when it is whole; at the same time a blocking reload
//! waits for the playlist that lists it. Without hints parts are fetched as they are listed, and without blocking reloads the playlist is
//! polled. Starts at the last part that can be decoded on its own.

use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;

use super::demux::Arrival;
use super::playlist::{ByteRange, Media, Part};
use super::{Error, Listing, Viewer, status_error};

/// The place of a part: number of its segment, and its own within that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    sequence: u64,
    index: usize,
}

/// What a playlist says about a place.
#[derive(Debug, PartialEq)]
enum Found<'a> {
    /// The part is listed.
    Listed(&'a Part),
    /// The segment is complete without it: the next one follows.
    NextSegment,
    /// It is still to come.
    Coming,
    /// It has gone.
    Gone,
}

/// The bytes of a part, and when they came.
type Received = Vec<(Bytes, Arrival)>;

/// Reads parts until the stream ends.
pub(super) async fn follow(viewer: &mut Viewer, mut listing: Listing) -> Result<(), Error> {
    let mut place = start(&listing.media);
    let mut behind = 0;
    loop {
        match listing.media.at(place) {
            Found::Listed(part) => {
                let part = part.clone();
                if let Some(bytes) = fetch(viewer, &listing, &part.uri, part.range).await? {
                    take(viewer, &listing.media, place, &bytes);
                }
                place.index += 1;
            }
            Found::NextSegment => {
                place = Place {
                    sequence: place.sequence + 1,
                    index: 0,
                };
            }
            Found::Coming if listing.media.ended => return Ok(()),
            Found::Coming => {
                let before = listing.media.next_sequence();
                let read;
                (listing, read) = wait_for(viewer, listing, place).await?;
                if listing.media.next_sequence() < before && !listing.media.ended {
                    viewer.record.totals().playlists_back += 1;
                    behind += 1;
                    if behind > MAX_BEHIND {
                        viewer.record.discontinuity();
                        place = start(&listing.media);
                        continue;
                    }
                }
                if let Some((uri, bytes)) = read {
                    place = place_hinted(viewer, &listing.media, place, &uri, &bytes);
                }
            }
            Found::Gone => {
                tracing::debug!(?place, list = ?listing.media.outline(), "parts are missing");
                let to = start(&listing.media);
                let missed = to.sequence.saturating_sub(place.sequence).max(1);
                viewer.record.totals().parts_missed += missed;
                viewer.record.discontinuity();
                place = to;
            }
        }
        if viewer.record.is_playing() && listing.media.has_discontinuity(place) {
            viewer.record.discontinuity();
        }
    }
}

/// Asks for the next part by its hint while a reload waits for the playlist with it. Returns that playlist, and what was read.
async fn wait_for(
    viewer: &mut Viewer,
    listing: Listing,
    place: Place,
) -> Result<(Listing, Option<(String, Received)>), Error> {
    let directives = listing
        .media
        .can_block_reload
        .then(|| format!("_HLS_msn={}&_HLS_part={}", place.sequence, place.index));
    let pause = if directives.is_some() {
        Duration::ZERO
    } else {
        listing
            .media
            .part_target
            .unwrap_or(LEAST_PAUSE)
            .max(LEAST_PAUSE)
    };
    let client = viewer.client.clone();
    let reloading = listing.clone();
    let reload = async move {
        tokio::time::sleep(pause).await;
        reloading.reload(client, directives).await
    };
    let hint = listing.media.hint.clone();
    let (reloaded, read) = tokio::join!(reload, async {
        match &hint {
            Some(uri) => fetch(viewer, &listing, uri, None).await,
            None => Ok(None),
        }
    });
    let read = match read {
        Ok(bytes) => hint.zip(bytes),
        // The stream may have ended; the playlist will tell.
        Err(Error::Status { status, .. }) if status == StatusCode::NOT_FOUND => None,
        Err(error) => return Err(error),
    };
    let new = match reloaded {
        Ok(new) => new,
        // Held as long as it may be. The next one may come.
        Err(Error::Status { status, .. }) if status == StatusCode::SERVICE_UNAVAILABLE => listing,
        Err(error) => return Err(error),
    };
    viewer.record.playlist(&new.media, new.asked);
    Ok((new, read))
}

/// Takes what was read by its hint, if it is what the new playlist lists next, and returns the place after it. Only the playlist tells
/// whether it begins a segment, or a new stretch behind gaps, which is why it has not been looked at before.
fn place_hinted(
    viewer: &mut Viewer,
    media: &Media,
    place: Place,
    uri: &str,
    bytes: &Received,
) -> Place {
    let place = media.behind_what_is_over(place);
    if let Found::Listed(part) = media.at(place)
        && part.uri != uri
    {
        viewer.record.totals().wrong_hints += 1;
        // What was listed instead is still to be read.
        return place;
    }
    if viewer.record.is_playing() && media.has_discontinuity(place) {
        viewer.record.discontinuity();
    }
    // Listed or, if the playlist is a little old, not yet.
    take(viewer, media, place, bytes);
    Place {
        index: place.index + 1,
        ..place
    }
}

/// Reads a part. `None` if the server has none to give now.
async fn fetch(
    viewer: &Viewer,
    listing: &Listing,
    uri: &str,
    range: Option<ByteRange>,
) -> Result<Option<Received>, Error> {
    let url = listing.url.join(uri)?;
    let mut response = viewer.client.get(&url, range).await?;
    if !response.status.is_success() {
        let text = response.text(MAX_ERROR).await?;
        if response.status == StatusCode::SERVICE_UNAVAILABLE {
            return Ok(None);
        }
        return Err(status_error(url, response.status, &text));
    }
    let mut received = Received::new();
    while let Some(bytes) = response.next().await? {
        received.push(bytes);
    }
    Ok(Some(received))
}

/// Measures a part that stands in this place.
fn take(viewer: &mut Viewer, media: &Media, place: Place, received: &Received) {
    // A part has no business to come in pieces, whatever its headers say.
    viewer
        .record
        .begin((place.index == 0).then_some(place.sequence), true);
    for (bytes, arrival) in received {
        viewer.record.bytes(bytes, *arrival, media);
    }
    viewer.record.end(media);
    viewer.record.totals().parts += 1;
}

/// The last part listed that can be decoded on its own, or where the next part will be.
fn start(media: &Media) -> Place {
    let parts = media.segments.iter().flat_map(|segment| {
        let sequence = segment.sequence;
        let numbered = segment.parts.iter().enumerate();
        numbered.map(move |(index, part)| (Place { sequence, index }, part))
    });
    let independent = parts.rev().find(|(_, part)| part.independent);
    independent.map_or_else(|| media.end(), |(place, _)| place)
}

impl Media {
    fn at(&self, place: Place) -> Found<'_> {
        let Some(segment) = self.find(place.sequence) else {
            return match self.segments.first() {
                Some(first) if place.sequence < first.sequence => Found::Gone,
                _ => Found::Coming,
            };
        };
        match segment.parts.get(place.index) {
            Some(part) => Found::Listed(part),
            None if segment.gap => Found::NextSegment,
            None if segment.uri.is_none() => Found::Coming,
            // Whole segments lose their parts when they get older.
            None if segment.parts.is_empty() => Found::Gone,
            None => Found::NextSegment,
        }
    }

    /// This place, or the one that follows it behind segments that are complete or gaps.
    fn behind_what_is_over(&self, mut place: Place) -> Place {
        while self.at(place) == Found::NextSegment {
            place = Place {
                sequence: place.sequence + 1,
                index: 0,
            };
        }
        place
    }

    /// Where the part after the last listed one will be.
    fn end(&self) -> Place {
        match self.segments.last() {
            Some(last) if last.uri.is_none() => Place {
                sequence: last.sequence,
                index: last.parts.len(),
            },
            _ => Place {
                sequence: self.next_sequence(),
                index: 0,
            },
        }
    }

    /// Whether a discontinuity stands in front of this place.
    fn has_discontinuity(&self, place: Place) -> bool {
        place.index == 0 && self.find(place.sequence).is_some_and(|s| s.discontinuity)
    }
}

/// Playlists older than the one before, one after the other, after which the stream has begun anew.
const MAX_BEHIND: u32 = 3;
/// No polling faster than this.
const LEAST_PAUSE: Duration = Duration::from_millis(20);
/// An error page of which the first line is of interest.
const MAX_ERROR: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::viewer::playlist::Playlist;

    fn list() -> Media {
        match Playlist::parse(include_str!("../hls/testdata/low_latency.m3u8")) {
            Some(Playlist::Media(media)) => media,
            _ => panic!(),
        }
    }

    fn place(sequence: u64, index: usize) -> Place {
        Place { sequence, index }
    }

    #[test]
    fn where_to_start() {
        let mut media = list();
        assert_eq!(start(&media), place(3, 0));
        assert_eq!(media.end(), place(3, 2));
        for segment in &mut media.segments {
            segment
                .parts
                .iter_mut()
                .for_each(|part| part.independent = false);
        }
        assert_eq!(start(&media), place(3, 2));
        media.segments.pop();
        assert_eq!(start(&media), place(4, 0));
    }

    #[test]
    fn places() {
        let media = list();
        assert!(matches!(media.at(place(2, 2)), Found::Listed(part) if part.uri == "s-p1-8.ts"));
        assert_eq!(media.at(place(2, 3)), Found::NextSegment);
        assert_eq!(media.at(place(3, 2)), Found::Coming);
        assert_eq!(media.at(place(4, 0)), Found::Coming);
        assert_eq!(media.at(place(1, 0)), Found::Gone);
        assert_eq!(media.at(place(0, 5)), Found::Gone);
        assert!(media.has_discontinuity(place(2, 0)) && !media.has_discontinuity(place(2, 1)));
        let mut media = media;
        media.segments[1].parts.clear();
        assert_eq!(media.at(place(2, 0)), Found::Gone);
        media.segments[1].gap = true;
        assert_eq!(media.at(place(2, 0)), Found::NextSegment);
        assert_eq!(media.behind_what_is_over(place(2, 0)), place(3, 0));
        assert_eq!(media.behind_what_is_over(place(3, 1)), place(3, 1));
    }
}
