//! Follows segments: the newest that has begun is read as it grows, and after it the next announced one.
//!
//! Which one has begun is told by PROGRAM-DATE-TIME and this machine's clock, or by EXT-X-PREFETCH. A clock that is wrong, or missing
//! dates, cost a later start and nothing else. While a segment is read, the next one is asked for already, if it is listed, and the
//! playlist is fetched once. A playlist without announced segments is polled as RFC 8216, 6.3.4 says.

use std::time::{Duration, Instant};

use hyper::StatusCode;
use tokio_util::task::AbortOnDropHandle;

use super::client::{self, Client, Response};
use super::playlist::{Media, Segment};
use super::url::Url;
use super::{Error, Listing, Viewer, status_error};

/// A request for the next segment, sent ahead.
struct Ahead {
    sequence: u64,
    answer: AbortOnDropHandle<Result<Response, Error>>,
}

/// Reads segments until the stream ends.
pub(super) async fn follow(viewer: &mut Viewer, mut listing: Listing) -> Result<(), Error> {
    let mut next = match newest(&listing.media, client::now().unix_micros) {
        Some(sequence) => sequence,
        None if listing.media.ended => return Err(Error::Ended(listing.url)),
        None => listing.media.next_sequence(),
    };
    let mut ahead: Option<Ahead> = None;
    let mut failures = 0;
    loop {
        let Some(segment) = listing
            .media
            .find(next)
            .filter(|s| s.uri.is_some())
            .cloned()
        else {
            if listing.media.ended && next >= listing.media.next_sequence() {
                return Ok(());
            }
            next = find_place(viewer, &mut listing, next).await?;
            continue;
        };
        if segment.gap {
            ahead = None;
            next += 1;
            continue;
        }
        let response = match ahead.take() {
            Some(ahead) if ahead.sequence == next => ahead.answer.await?,
            _ => {
                let url = address(&listing.url, &segment)?;
                viewer.client.get(&url, segment.range).await
            }
        };
        let mut response = response?;
        if !response.status.is_success() {
            failures += 1;
            let text = response.text(MAX_ERROR).await?;
            let gone = response.status == StatusCode::NOT_FOUND && viewer.record.is_playing();
            listing = reload(viewer, listing).await?;
            if listing.media.ended && listing.media.find(next).is_none() {
                return Ok(());
            }
            if failures > MAX_FAILURES || !gone {
                return Err(status_error(response.url, response.status, &text));
            }
            // It may just not be there yet; if it never comes, the next one is as good.
            if failures == MAX_FAILURES {
                tracing::debug!(next, status = %response.status, "a segment is not to be had");
                viewer.record.totals().segments_missed += 1;
                viewer.record.discontinuity();
                next += 1;
            }
            tokio::time::sleep(poll_interval(&listing.media)).await;
            continue;
        }
        failures = 0;
        if segment.discontinuity {
            viewer.record.discontinuity();
        }
        (listing, ahead) = read(viewer, listing, next, response).await?;
        viewer.record.totals().segments += 1;
        next += 1;
    }
}

/// Reads one segment; returns the playlist as it is by then, and the request for the next segment.
async fn read(
    viewer: &mut Viewer,
    mut listing: Listing,
    sequence: u64,
    mut response: Response,
) -> Result<(Listing, Option<Ahead>), Error> {
    viewer
        .record
        .begin(Some(sequence), response.length.is_some());
    let mut ahead = None;
    let fresh = listing.asked.elapsed() < poll_interval(&listing.media);
    let mut reloading = (!fresh).then(|| spawn_reload(&viewer.client, &listing));
    loop {
        if ahead.is_none() {
            ahead = ask_ahead(&viewer.client, &listing, sequence + 1)?;
        }
        tokio::select! {
            biased;
            next = response.next() => match next? {
                Some((bytes, arrival)) => viewer.record.bytes(&bytes, arrival, &listing.media),
                None => break,
            },
            reloaded = async { match reloading.as_mut() { Some(task) => task.await, None => std::future::pending().await } } => {
                reloading = None;
                listing = take(viewer, listing, reloaded?);
            }
        }
    }
    viewer.record.end(&listing.media);
    // It is wanted anyway, and has had the segment's time.
    if let Some(task) = reloading {
        listing = take(viewer, listing, task.await?);
    }
    Ok((listing, ahead))
}

/// Waits until `next` is listed, or finds where else to go on.
async fn find_place(viewer: &mut Viewer, listing: &mut Listing, next: u64) -> Result<u64, Error> {
    let before = listing.media.next_sequence();
    let first = listing.media.segments.first().map(|s| s.sequence);
    let Some(first) = first else {
        *listing = reload_later(viewer, listing.clone()).await?;
        return Ok(if before == next {
            listing.media.next_sequence()
        } else {
            next
        });
    };
    let newest = newest(&listing.media, client::now().unix_micros).unwrap_or(first);
    if next < first {
        tracing::debug!(next, list = ?listing.media.outline(), "segments are missing");
        viewer.record.totals().segments_missed += first - next;
        viewer.record.discontinuity();
        return Ok(newest);
    }
    if next > before.saturating_add(MAX_AHEAD) {
        tracing::debug!(next, list = ?listing.media.outline(), "the playlist went back");
        viewer.record.totals().playlists_back += 1;
        viewer.record.discontinuity();
        return Ok(newest);
    }
    *listing = reload_later(viewer, listing.clone()).await?;
    // At the end of the stream what was announced is taken back.
    if listing.media.next_sequence() < before && !listing.media.ended {
        viewer.record.totals().playlists_back += 1;
    }
    Ok(next)
}

/// The number of the newest segment that has begun.
fn newest(media: &Media, now_micros: i64) -> Option<u64> {
    let listed = || media.segments.iter().filter(|s| s.uri.is_some());
    let growing = listed().find(|segment| segment.prefetch);
    let begun = || listed().rfind(|s| s.date.is_some_and(|date| date <= now_micros));
    let dated = || listed().any(|segment| segment.date.is_some());
    let found = growing.or_else(begun).or_else(|| {
        if dated() {
            listed().next()
        } else {
            listed().next_back()
        }
    });
    found.map(|segment| segment.sequence)
}

fn address(base: &Url, segment: &Segment) -> Result<Url, Error> {
    Ok(base.join(segment.uri.as_deref().unwrap_or_default())?)
}

fn ask_ahead(client: &Client, listing: &Listing, sequence: u64) -> Result<Option<Ahead>, Error> {
    let Some(segment) = listing.media.find(sequence).filter(|s| s.uri.is_some()) else {
        return Ok(None);
    };
    let (client, url, range) = (
        client.clone(),
        address(&listing.url, segment)?,
        segment.range,
    );
    let answer = AbortOnDropHandle::new(tokio::spawn(async move { client.get(&url, range).await }));
    Ok(Some(Ahead { sequence, answer }))
}

fn spawn_reload(client: &Client, listing: &Listing) -> AbortOnDropHandle<Result<Listing, Error>> {
    let listing = listing.clone();
    AbortOnDropHandle::new(tokio::spawn(listing.reload(client.clone(), None)))
}

/// The new playlist; a reload that failed is counted, and the old one serves on.
fn take(viewer: &mut Viewer, old: Listing, new: Result<Listing, Error>) -> Listing {
    match new {
        Ok(new) => {
            if new.media.next_sequence() < old.media.next_sequence() && !new.media.ended {
                viewer.record.totals().playlists_back += 1;
            }
            viewer.record.playlist(&new.media, new.asked);
            new
        }
        Err(error) => {
            tracing::debug!(%error, "the playlist was not had");
            viewer.record.totals().failures += 1;
            old
        }
    }
}

async fn reload(viewer: &mut Viewer, listing: Listing) -> Result<Listing, Error> {
    let new = listing.reload(viewer.client.clone(), None).await?;
    viewer.record.playlist(&new.media, new.asked);
    Ok(new)
}

/// Reloads when it is time to.
async fn reload_later(viewer: &mut Viewer, listing: Listing) -> Result<Listing, Error> {
    let due = listing.asked + poll_interval(&listing.media);
    let wait = due.saturating_duration_since(Instant::now());
    tokio::time::sleep(wait).await;
    reload(viewer, listing).await
}

/// Half a target duration, within reason.
fn poll_interval(media: &Media) -> Duration {
    (media.target_duration / 2).clamp(Duration::from_millis(250), Duration::from_secs(5))
}

/// Attempts at a listed segment before the next one is tried, or the stream given up.
const MAX_FAILURES: u32 = 4;
/// An error page of which the first line is of interest.
const MAX_ERROR: usize = 64 * 1024;
/// Segments by which a playlist may be behind the segment that is wanted, through a cache for example.
const MAX_AHEAD: u64 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::viewer::playlist::Playlist;

    fn newest_of(text: &str, now: i64) -> Option<u64> {
        match Playlist::parse(text) {
            Some(Playlist::Media(media)) => newest(&media, now),
            _ => panic!(),
        }
    }

    #[test]
    fn where_to_start() {
        let early = include_str!("../hls/testdata/early.m3u8");
        let second = |n: i64| (1_767_225_600 + n) * 1_000_000;
        assert_eq!(newest_of(early, second(43) + 1), Some(43));
        assert_eq!(newest_of(early, second(99)), Some(45), "our clock is ahead");
        assert_eq!(newest_of(early, 0), Some(41), "our clock is behind");
        let prefetch = include_str!("../hls/testdata/prefetch.m3u8");
        assert_eq!(newest_of(prefetch, 0), Some(43));
        let plain = "#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:5\n#EXTINF:2,\na.ts\n#EXTINF:2,\nb.ts\n";
        assert_eq!(newest_of(plain, 0), Some(6));
        assert_eq!(newest_of("#EXTM3U\n", 0), None);
    }
}
