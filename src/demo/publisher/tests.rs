//! The publisher against a server that takes everything.

use super::*;
use crate::rtmp::chunk::kind;
use crate::rtmp::push::tests::serve;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

async fn options(listener: &TcpListener) -> PublishOptions {
    let address = listener.local_addr().unwrap();
    PublishOptions::new(format!("rtmp://{address}/live/test").parse().unwrap())
}

#[tokio::test]
async fn signal_arrives_whole_and_in_order() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut options = options(&listener).await;
    (options.size, options.gop) = ((320, 180), Duration::from_millis(200));
    options.duration = Some(Duration::from_millis(700));
    let server = tokio::spawn(serve(listener, "NetStream.Publish.Start", usize::MAX));
    let summary = publish(options, CancellationToken::new()).await.unwrap();
    let media = server.await.unwrap();

    assert_eq!(media[0].kind, kind::DATA_AMF0);
    let video: Vec<_> = media
        .iter()
        .filter(|message| message.kind == kind::VIDEO)
        .collect();
    assert_eq!(&video[0].payload[..6], &[0x17, 0, 0, 0, 0, 1]);
    assert_eq!(&video[1].payload[..5], &[0x17, 1, 0, 0, 0]);
    assert_eq!(summary.pictures as usize, video.len() - 1);
    assert_eq!(summary.pictures + summary.skipped, 21);
    assert!(
        summary.bytes
            > media
                .iter()
                .map(|message| message.payload.len() as u64)
                .sum()
    );
    for picture in &video[1..] {
        // Each on its slot, whatever the machine's load.
        let slot = (u64::from(picture.timestamp) * 30 + 500) / 1000;
        assert_eq!(u64::from(picture.timestamp), (slot * 1000 + 15) / 30);
    }
    assert!(
        video[1..]
            .windows(2)
            .all(|pair| pair[0].timestamp < pair[1].timestamp)
    );
    let keys = video[1..]
        .iter()
        .filter(|picture| picture.payload[0] == 0x17)
        .count();
    assert!((1..=4).contains(&keys), "{keys}");

    let audio: Vec<_> = media
        .iter()
        .filter(|message| message.kind == kind::AUDIO)
        .collect();
    assert_eq!(&audio[0].payload[..], &[0xaf, 0, 0x11, 0x88]);
    assert_eq!(summary.audio_frames as usize, audio.len() - 1);
    assert!((31..=33).contains(&summary.audio_frames), "{summary:?}");
    let first = u64::from(audio[1].timestamp);
    assert!(first <= 22);
    for (i, frame) in audio[1..].iter().enumerate() {
        assert!((first + i as u64 * 64 / 3).abs_diff(frame.timestamp.into()) <= 1);
    }
}

#[tokio::test]
async fn cancel_ends_it_in_good_order() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = options(&listener).await;
    let cancel = CancellationToken::new();
    let publisher = tokio::spawn(publish(options, cancel.clone()));
    let (mut reached, server) = {
        let (sender, reached) = mpsc::channel::<()>(1);
        (
            reached,
            tokio::spawn(async move {
                let media = serve(listener, "NetStream.Publish.Start", 5).await;
                drop(sender);
                media
            }),
        )
    };
    assert_eq!(reached.recv().await, None);
    cancel.cancel();
    let summary = publisher.await.unwrap();
    // The server hung up at the same moment: either end is a good one.
    assert!(
        matches!(
            summary,
            Ok(_) | Err(Error::Push(push::Error::Eof | push::Error::Io(_)))
        ),
        "{summary:?}"
    );
    assert_eq!(server.await.unwrap().len(), 5);
}

#[tokio::test]
async fn refusal_is_reported() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = options(&listener).await;
    let server = tokio::spawn(serve(listener, "NetStream.Publish.BadName", 1));
    let error = publish(options, CancellationToken::new())
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("NetStream.Publish.BadName"),
        "{error}"
    );
    assert!(server.await.unwrap().is_empty());
}

#[tokio::test]
async fn server_that_hangs_up_ends_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = options(&listener).await;
    let server = tokio::spawn(serve(listener, "NetStream.Publish.Start", 3));
    let error = publish(options, CancellationToken::new())
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::Push(push::Error::Eof | push::Error::Io(_))),
        "{error:?}"
    );
    server.await.unwrap();
}

#[tokio::test]
async fn server_that_hangs_up_at_connect_is_reported_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = options(&listener).await;
    let server = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut hello = vec![0; 1537];
        socket.read_exact(&mut hello).await.unwrap();
        socket
            .write_all(&[&[3][..], &[0; 1536], &hello[1..]].concat())
            .await
            .unwrap();
        // To the end of Set Chunk Size, so that closing resets nothing.
        let mut rest = Vec::new();
        while !rest.ends_with(&[0, 1, 0, 0]) {
            socket.read_buf(&mut rest).await.unwrap();
        }
    });
    let error = publish(options, CancellationToken::new())
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("hung up instead of answering connect"),
        "{error}"
    );
    server.await.unwrap();
}

#[tokio::test]
async fn nobody_there_is_reported() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = options(&listener).await;
    drop(listener);
    let error = publish(options, CancellationToken::new())
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("cannot connect to rtmp://127.0.0.1:"),
        "{error}"
    );
}

#[test]
fn options_out_of_range_are_named() {
    let good = PublishOptions::new("rtmp://h/a/b".parse().unwrap());
    assert!(good.check().is_ok());
    for (bad, part) in [
        (
            PublishOptions {
                size: (641, 360),
                ..good.clone()
            },
            "641x360",
        ),
        (
            PublishOptions {
                size: (64, 36),
                ..good.clone()
            },
            "64x36",
        ),
        (
            PublishOptions {
                fps: 0,
                ..good.clone()
            },
            "0 pictures",
        ),
        (
            PublishOptions {
                gop: Duration::ZERO,
                ..good.clone()
            },
            "key picture",
        ),
        (
            PublishOptions {
                bitrate: 1,
                ..good.clone()
            },
            "bit rate 1",
        ),
        (
            PublishOptions {
                sound_rate: 44_100,
                ..good.clone()
            },
            "44100 samples",
        ),
    ] {
        assert!(bad.check().unwrap_err().to_string().contains(part));
    }
}
