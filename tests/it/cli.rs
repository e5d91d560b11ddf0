//! The program: what it says to a wrong command line, and how it ends.

use std::net::TcpListener;

use tokio::process::Command;

use crate::common::flv;
use crate::common::media::Clip;
use crate::common::peer::Peer;
use crate::common::playlist::Playlist;
use crate::common::program::{LHLS, Program};
use crate::common::tools::{Finished, Tool};
use crate::common::viewer::{self, Viewer};
use crate::common::within;

#[tokio::test]
async fn version() {
    let said = Tool::start(LHLS, &["--version"]).succeed_silently().await;
    assert_eq!(said, format!("lhls {}\n", env!("CARGO_PKG_VERSION")));
}

#[tokio::test]
async fn help_states_defaults_and_prices() {
    let said = Tool::start(LHLS, &["serve", "--help"])
        .succeed_silently()
        .await;
    for text in [
        "[default: 1s]",
        "[default: 0.0.0.0:1935]",
        "LHLS_SEGMENT_DURATION",
        "Memory",
        "latency",
    ] {
        assert!(said.contains(text), "{text} is missing:\n{said}");
    }
}

#[tokio::test]
async fn a_value_out_of_range() {
    let finished = serve(&["--segment-duration", "50ms"]).await;
    assert_refused(
        &finished,
        &["--segment-duration is 50ms", "from 250ms to 10s"],
    );
}

#[tokio::test]
async fn options_that_contradict_each_other() {
    let finished = serve(&["--segment-duration", "4s", "--target-duration", "2"]).await;
    assert_refused(&finished, &["--target-duration 2", "--segment-duration 4s"]);
}

#[tokio::test]
async fn values_that_cannot_be_read() {
    for (option, value) in [
        ("--segment-duration", "1 parsec"),
        ("--retain-bytes", "lots"),
        ("--rtmp-listen", "here"),
        ("--announce", "two"),
        ("--log-format", "yaml"),
    ] {
        let finished = serve(&[option, value]).await;
        assert_refused(&finished, &[option, value]);
        assert!(finished.stdout.is_empty());
    }
    assert_refused(&serve(&["--announce", "-1"]).await, &["-1"]);
    assert_refused(&serve(&["--log", "lhls=loud=er"]).await, &["--log is"]);
}

#[tokio::test]
async fn an_option_that_does_not_exist() {
    let finished = serve(&["--rtmp-lisen", "127.0.0.1:0"]).await;
    assert_refused(&finished, &["--rtmp-lisen", "--rtmp-listen"]);
}

#[tokio::test]
async fn nothing_at_all_gets_the_help() {
    let finished = Tool::start(LHLS, &[""; 0]).finish().await;
    assert_eq!(finished.code, Some(2));
    assert!(
        finished.stderr.contains("Usage: lhls"),
        "{}",
        finished.stderr
    );
}

#[tokio::test]
async fn a_bad_value_from_the_environment() {
    let output = Command::new(LHLS)
        .arg("serve")
        .env("LHLS_RETAIN", "1s")
        .output();
    let output = within("the end of the program", output).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("--retain is 1s"), "{said}");
}

#[tokio::test]
async fn a_port_in_use() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (option, other) in [
        ("--rtmp-listen", "--http-listen"),
        ("--http-listen", "--rtmp-listen"),
    ] {
        let finished = serve(&[option, &address, other, "127.0.0.1:0"]).await;
        assert_refused(
            &finished,
            &[option, &address, "another program has this port"],
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_streams_and_then_the_program() {
    ends_on("TERM", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_does_the_same() {
    ends_on("INT", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_can_be_for_machines() {
    ends_on("TERM", &["--log-format", "json"]).await;
}

/// Publishes half a clip, has a viewer wait, sends the signal, and sees everybody off.
async fn ends_on(signal: &str, options: &[&str]) {
    let mut program = Program::start(options).await;
    let mut publisher = Peer::publishing(program.rtmp, "live/last").await;
    for tag in flv::read(&Clip::default().file().await) {
        if tag.timestamp < 2500 {
            publisher
                .message(4, tag.kind, 1, tag.timestamp, &tag.body)
                .await
                .unwrap();
        }
    }
    publisher.settle().await;
    let master = viewer::get(program.http, "/live/last/playlist.m3u8").await;
    let master = master.text();
    let uri = master.lines().rfind(|line| !line.starts_with('#')).unwrap();
    let media = format!("/live/last/{uri}");
    let playlist = viewer::get(program.http, &media).await.text();
    let playlist = Playlist::parse(&playlist);
    let mut waiting = Viewer::connect(program.http).await;
    let growing = format!("/live/last/{}", playlist.entries[2].uri);
    waiting.ask("GET", &growing, &[]).await;
    waiting.head().await;
    // This connection is busy when the end comes, so it may ask once more.
    let mut last = Viewer::connect(program.http).await;
    let announced = format!("/live/last/{}", playlist.entries[3].uri);
    last.ask("GET", &announced, &[]).await;
    last.head().await;
    // Sent ahead, and answered when the announced segment has been withdrawn.
    last.send(format!("GET {media} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes())
        .await
        .unwrap();

    program.signal(signal).await;
    let mut grown = 0;
    while let Some(chunk) = waiting.next_chunk().await {
        grown += chunk.bytes.len();
    }
    assert!(grown > 0, "the growing segment ends as it should");
    assert!(last.next_chunk().await.is_none());
    last.expect_body();
    let end = Playlist::parse(&last.response().await.text());
    assert!(end.ended, "{}", end.text);
    assert_eq!(end.last_sequence(), Some(playlist.entries[2].sequence));
    publisher.expect_close().await;
    assert_eq!(program.ended().await, Some(0));
    // And the ports are free.
    TcpListener::bind(program.rtmp).unwrap();
}

/// `lhls serve`, which is not supposed to get far.
async fn serve(options: &[&str]) -> Finished {
    let mut arguments = vec!["serve"];
    arguments.extend(options);
    Tool::start(LHLS, &arguments).finish().await
}

fn assert_refused(finished: &Finished, words: &[&str]) {
    let said = &finished.stderr;
    assert_eq!(finished.code, Some(2), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with("lhls: "), "{said}");
    for word in words {
        assert!(said.contains(word), "{word} is missing: {said}");
    }
}
