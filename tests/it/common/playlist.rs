//! Playlists as a viewer fetches them.

pub(crate) use super::media_playlist::{Playlist, check_dates, check_history};
use super::server::TestServer;
use super::viewer;

/// Where the multivariant playlist of a stream leads to.
pub(crate) async fn media_path(server: &TestServer, name: &str) -> String {
    media_path_of(server, name, "playlist.m3u8").await
}

/// Where this multivariant playlist of a stream leads to.
pub(crate) async fn media_path_of(server: &TestServer, name: &str, file: &str) -> String {
    let response = viewer::get(server.http, &format!("/{name}/{file}")).await;
    let text = response.text();
    assert_eq!(response.status(), 200, "{text}");
    let (rest, _) = m3u8_rs::parse_master_playlist(text.as_bytes()).unwrap();
    assert!(rest.is_empty(), "left over: {rest:?}");
    let uri = text.lines().rfind(|line| !line.starts_with('#')).unwrap();
    format!("/{name}/{uri}")
}

pub(crate) async fn fetch(server: &TestServer, path: &str) -> Playlist {
    let response = viewer::get(server.http, path).await;
    assert_eq!(response.status(), 200, "{}", response.text());
    assert_eq!(
        response.header("content-type"),
        Some("application/vnd.apple.mpegurl")
    );
    Playlist::parse(&response.text())
}

/// The path of an entry, given that of the playlist.
pub(crate) fn sibling(path: &str, uri: &str) -> String {
    let (folder, _) = path.rsplit_once('/').unwrap();
    format!("{folder}/{uri}")
}
