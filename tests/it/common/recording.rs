//! A viewer that takes a stream down from its very first segment to its last.

use std::sync::Arc;
use std::time::Duration;

use super::playlist::{self, Playlist};
use super::server::TestServer;
use super::viewer;
use super::{ts_check, within};

/// What was taken down.
pub(crate) struct Recording {
    /// Path of the media playlist.
    pub(crate) path: String,
    /// The segments, in order.
    pub(crate) segments: Vec<Taken>,
    /// Every state of the playlist that was seen.
    pub(crate) history: Vec<Playlist>,
}

/// One segment.
pub(crate) struct Taken {
    pub(crate) sequence: u64,
    pub(crate) bytes: Vec<u8>,
}

impl Recording {
    /// Follows a stream that has begun until its ENDLIST.
    pub(crate) async fn follow(server: &TestServer, name: &str) -> Self {
        server.wait_for_playlist(name).await;
        let path = playlist::media_path(server, name).await;
        Self::follow_playlist(server, path).await
    }

    /// Follows a media playlist until its ENDLIST.
    pub(crate) async fn follow_playlist(server: &TestServer, path: String) -> Self {
        let first = playlist::fetch(server, &path).await;
        let named = first.entries[0].clone();
        // A segment's name ends in its number.
        let name = named.uri.strip_suffix(".ts").unwrap();
        let name = name.strip_suffix(&named.sequence.to_string()).unwrap();
        let name = playlist::sibling(&path, name);
        // Whoever comes late finds what the playlist has forgotten under the numbers before.
        let mut sequence = first.media_sequence;
        while status_of(server, &name, sequence - 1).await == 200 {
            sequence -= 1;
        }
        let mut history = vec![first];
        let mut segments = Vec::new();
        loop {
            let newest = history.last().expect("never empty");
            if newest.ended && newest.last_sequence().is_none_or(|last| last < sequence) {
                break;
            }
            if newest.ended || newest.last_sequence() >= Some(sequence) {
                let response = viewer::get(server.http, &format!("{name}{sequence}.ts")).await;
                let bytes = response.bytes();
                // Announced, and then the stream ended.
                let withdrawn = response.status() == 404 || bytes.is_empty();
                if is_passed_over(&bytes) {
                    sequence += 1;
                    continue;
                }
                if !withdrawn {
                    segments.push(Taken { sequence, bytes });
                    sequence += 1;
                } else {
                    assert!(!newest.ended, "a listed segment is gone: {}", newest.text);
                    within("ENDLIST", ended(server, &path)).await;
                }
            }
            history.push(playlist::fetch(server, &path).await);
        }
        Self {
            path,
            segments,
            history,
        }
    }

    pub(crate) fn bodies(&self) -> Vec<&[u8]> {
        self.segments
            .iter()
            .map(|segment| segment.bytes.as_slice())
            .collect()
    }

    /// All of it as one file.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.bodies().concat()
    }

    /// Checks the transport stream and the playlist, and takes the former apart.
    pub(crate) fn check(&self) -> ts_check::Programme {
        playlist::check_history(&self.history);
        let independent = self.history.iter().all(|playlist| playlist.independent);
        let programme = ts_check::check(&self.bodies(), independent);
        let listed = self.history.last().expect("never empty");
        // What was passed over has no media, and no length to speak of.
        for entry in listed.entries.iter().filter(|entry| entry.seconds > 0.001) {
            let index = self
                .segments
                .iter()
                .position(|segment| segment.sequence == entry.sequence)
                .expect("a listed segment could be had");
            programme.check_duration(index, entry.seconds);
        }
        programme
    }
}

/// Follows a stream in a task of its own, from the moment it can be played.
pub(crate) fn start(server: &Arc<TestServer>, name: &str) -> tokio::task::JoinHandle<Recording> {
    let (server, name) = (Arc::clone(server), name.to_owned());
    tokio::spawn(async move { Recording::follow(&server, &name).await })
}

async fn ended(server: &TestServer, path: &str) {
    while !playlist::fetch(server, path).await.ended {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn status_of(server: &TestServer, name: &str, sequence: u64) -> u16 {
    let path = format!("{name}{sequence}.ts");
    viewer::request(server.http, "HEAD", &path, &[])
        .await
        .status()
}

/// Tables and two packets of nothing: what an announced segment consists of that a discontinuity passes over.
fn is_passed_over(bytes: &[u8]) -> bool {
    let is_null = |packet: &[u8]| packet[1] & 0x1f == 0x1f && packet[2] == 0xff;
    bytes.len() == 4 * 188 && bytes.chunks(188).skip(2).all(is_null)
}
