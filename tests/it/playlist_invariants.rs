//! What holds of a playlist over a whole run: one TARGETDURATION, names that stay, numbers that rise, dates that run on.

use std::sync::Arc;

use crate::common::media::Clip;
use crate::common::playlist;
use crate::common::publisher::Publisher;
use crate::common::server::TestServer;

#[tokio::test(flavor = "multi_thread")]
async fn one_second_segments() {
    let history = watched(&[], &Clip::default(), "live/polled").await;
    for state in history.iter().filter(|state| !state.ended) {
        assert_eq!(state.target_duration, 1);
        // Two finished at most, one growing, two announced: three target durations from the end is where players start.
        assert!((3..=5).contains(&state.entries.len()), "{}", state.text);
        assert!(state.independent, "{}", state.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn half_second_segments() {
    let clip = Clip {
        gop: 15,
        ..Clip::default()
    };
    let options = ["--segment-duration", "500ms"];
    let history = watched(&options, &clip, "live/half").await;
    for state in history.iter().filter(|state| !state.ended) {
        assert_eq!(state.target_duration, 1);
        assert!((6..=8).contains(&state.entries.len()), "{}", state.text);
    }
    let last = history.last().unwrap();
    assert!(last.entries.iter().all(|entry| entry.seconds < 0.55));
}

#[tokio::test(flavor = "multi_thread")]
async fn broadcast_rate() {
    let clip = Clip {
        rate: "30000/1001",
        ..Clip::default()
    };
    let history = watched(&[], &clip, "live/ntsc").await;
    let finished = &history.last().unwrap().entries[1];
    assert!((finished.seconds - 1.001).abs() < 0.0011, "{finished:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_announced_when_asked_for() {
    let clip = Clip {
        seconds: 4,
        ..Clip::default()
    };
    let history = watched(&["--announce", "4"], &clip, "live/more").await;
    assert!(
        (5..=7).contains(&history[0].entries.len()),
        "{}",
        history[0].text
    );
}

/// Polls the playlist for as long as a clip is published in real time.
async fn watched(options: &[&str], clip: &Clip, name: &str) -> Vec<playlist::Playlist> {
    let server = Arc::new(TestServer::with(options));
    let publisher = tokio::spawn(Publisher::start(&server, name, clip).await.play(1.0));
    server.wait_for_playlist(name).await;
    let path = playlist::media_path(&server, name).await;
    let mut history = Vec::new();
    loop {
        let state = playlist::fetch(&server, &path).await;
        let ended = state.ended;
        history.push(state);
        if ended {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    publisher.await.unwrap();
    playlist::check_history(&history);
    playlist::check_dates(&history);
    let last = history.last().unwrap();
    // The last one has joined the two that were finished.
    assert!(
        last.entries.len() <= 3,
        "finished ones only:\n{}",
        last.text
    );
    assert!(history.len() > 3, "several states were seen");
    server.assert_no_panics();
    history
}
