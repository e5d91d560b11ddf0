//! Stream keys: every form that encoders send, what is refused and how, and that a key is nowhere to be seen afterwards.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lhls::rtmp::amf::{self, Amf0Value};
#[cfg(feature = "demo")]
use lhls::viewer::Mode;

#[cfg(feature = "demo")]
use crate::common::audience::{Audience, Source};
use crate::common::media::Clip;
use crate::common::peer::Peer;
use crate::common::program::Program;
use crate::common::publisher::Publisher;
use crate::common::recording;
use crate::common::server::TestServer;
use crate::common::tools::{Finished, Tool};
use crate::common::{eventually, flv, logs, viewer, within};

const KEY: &str = "kprfd3tk4kfhk27yr0whc4";
const TOKEN: &str = "0123456789-operators";
const WRONG: &str = "wr0ngwr0ngwr0ngwr0ng22";

fn with_keys(options: &[&str]) -> TestServer {
    let key = format!("live/stream={KEY},shows/*=many{KEY}");
    let mut all = vec!["--keys", &key];
    all.extend(options);
    TestServer::with(&all)
}

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_with_the_key_in_all_places() {
    for url in [
        format!("live/{KEY}"),
        format!("live/stream?key={KEY}"),
        format!("live/stream?streamkey={KEY}&x=1"),
        format!("live/stream/{KEY}"),
        format!("live/stream?user=me&password={KEY}"),
    ] {
        let server = Arc::new(with_keys(&[]));
        let finished = ffmpeg(&server, &server.rtmp_url(&url)).await;
        assert_eq!(finished.code, Some(0), "{url}: {}", finished.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_with_user_and_password() {
    let server = Arc::new(with_keys(&[]));
    let url = format!("rtmp://somebody:{KEY}@{}/login/any", server.rtmp);
    let finished = ffmpeg(&server, &url).await;
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);

    let url = format!("rtmp://somebody:{WRONG}@{}/login/any", server.rtmp);
    let finished = short_ffmpeg(&url).finish().await;
    assert_ne!(finished.code, Some(0));
    assert!(
        finished.stderr.contains("Incorrect username/password"),
        "{}",
        finished.stderr
    );
}

/// GStreamer's own client. Its librtmp one (rtmpsink) ends in a memory error of its own when it is challenged, whether the password is right or
/// not.
#[tokio::test(flavor = "multi_thread")]
async fn gstreamer_with_user_and_password() {
    let server = Arc::new(with_keys(&[]));
    let sink = [
        "rtmp2sink".to_owned(),
        format!("location=rtmp://{}/login/any", server.rtmp),
        "username=me".to_owned(),
        format!("password={KEY}"),
        "authmod=adobe".to_owned(),
    ];
    let recording = recording::start(&server, "live/stream");
    let finished = gstreamer(&sink).finish().await;
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    assert!(recording.await.unwrap().check().video.len() >= 50);
}

/// The library that OBS, rtmpdump and GStreamer's `rtmpsink` share, with the forms of the key that need no login.
#[tokio::test(flavor = "multi_thread")]
async fn librtmp_with_the_key_in_all_places() {
    for name in [
        KEY.to_owned(),
        format!("stream?key={KEY}"),
        format!("stream/{KEY}"),
    ] {
        let server = Arc::new(with_keys(&[]));
        let url = server.rtmp_url(&format!("live/{name}"));
        let sink = ["rtmpsink".to_owned(), format!("location={url}")];
        let recording = recording::start(&server, "live/stream");
        let finished = gstreamer(&sink).finish().await;
        assert_eq!(finished.code, Some(0), "{name}: {}", finished.stderr);
        assert!(recording.await.unwrap().check().video.len() >= 50, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_is_refused_in_words_and_never_started() {
    let server = with_keys(&[]);
    for (app, name) in [
        ("live", WRONG.to_owned()),
        ("live", "stream".to_owned()),
        ("live", format!("stream?key={WRONG}")),
        ("live", String::new()),
    ] {
        let mut peer = Peer::connected(server.rtmp, app).await;
        let asked = Instant::now();
        let (code, text) = peer.publish(&name).await;
        assert_eq!(code, "NetStream.Publish.Unauthorized", "{text}");
        assert!(text.contains("no valid stream key"), "{text}");
        assert!(!text.contains(WRONG) && !text.contains(KEY));
        assert!(asked.elapsed().as_millis() >= 900, "the answer is delayed");
        let rest = peer.expect_close().await;
        assert!(!String::from_utf8_lossy(&rest).contains("Publish.Start"));
    }
    let finished = short_ffmpeg(&server.rtmp_url(&format!("live/{WRONG}")))
        .finish()
        .await;
    assert_ne!(finished.code, Some(0));
    assert!(server.registry.list().is_empty());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_wrong_keys_are_mostly_not_looked_at() {
    let key = format!("live/stream={KEY}");
    // A process of its own: the memory of this one is that of all tests that run beside.
    let program = Program::start(&["--max-publishers", "4000", "--keys", &key]).await;
    let (rtmp, http) = (program.rtmp, program.http);
    #[cfg(feature = "demo")]
    let (source, audience) = {
        let source = Source::start(&format!("rtmp://{rtmp}/live/stream?key={KEY}"));
        let url = format!("http://{http}/live/stream/ll.m3u8");
        let audience = Audience::watch(&url, Mode::Parts, 5);
        // Before the address is known for wrong keys.
        program.wait_for_log("live at").await;
        (source, audience)
    };
    let before = program.memory("VmRSS");
    let mut tasks = Vec::new();
    for task in 0..20 {
        tasks.push(tokio::spawn(async move {
            for i in 0..500 {
                // On a machine that stood still for seconds, the server gives up on a slow peer: then once more.
                let mut tries = 0;
                loop {
                    let attempt = tokio::spawn(async move {
                        let mut peer = Peer::connected(rtmp, "live").await;
                        peer.publish(&format!("guess-{task}-{i}-aaaaaaaa")).await.0
                    });
                    match attempt.await {
                        Ok(code) => break assert_eq!(code, "NetStream.Publish.Unauthorized"),
                        Err(_) if tries < 5 => tries += 1,
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        }));
    }
    let start = Instant::now();
    for task in tasks {
        task.await.unwrap();
    }
    let minutes = start.elapsed().as_secs_f64() / 60.0;
    // A connection is counted when it is over, which is a moment after its answer.
    let looked_at = within("all to be counted", async {
        loop {
            let text = viewer::get(http, "/metrics").await.text();
            let counted = |reason: &str| {
                let name = format!("lhls_rtmp_rejects_total{{reason=\"{reason}\"}} ");
                let line = text.lines().find_map(|line| line.strip_prefix(&name));
                line.map_or(0, |number| number.parse::<u64>().unwrap())
            };
            let looked_at = counted("wrong_key");
            if looked_at + counted("too_many_wrong_keys") >= 10_000 {
                break looked_at;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    // Ten at once and ten a minute; some more, as those that come at the same moment count together.
    assert!(
        (looked_at as f64) <= 32.0 + 10.0 * minutes,
        "{looked_at} in {minutes} min"
    );
    let grown = program.memory("VmRSS").saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more");
    // Who publishes and who watches has noticed nothing.
    #[cfg(feature = "demo")]
    {
        audience.finish().await;
        source.finish().await;
    }
    // Who has the key and another address is not concerned; here all have one, so it is only seen that it is told how long.
    let mut peer = Peer::connected(rtmp, "live").await;
    let (_, text) = peer.publish(KEY).await;
    assert!(text.contains("try again in"), "{text}");
    let text = viewer::get(http, "/metrics").await.text();
    assert!(text.contains("\nlhls_panics_total 0\n"), "{text}");
}

/// Publishes with the key in every place and searches everything that anybody, or an operator, can get for it. The operators' token must be
/// nowhere either.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_nowhere_to_be_seen() {
    let folder = std::env::temp_dir().join(format!("lhls-keys-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("lhls.toml");
    let text = format!(
        "log = \"trace\"\nreconnect-window = \"0s\"\nadmin-token = \"{TOKEN}\"\n[keys]\n\"live/stream\" = \"{KEY}\"\n"
    );
    std::fs::write(&file, text).unwrap();
    let program = Program::start(&["--config", file.to_str().unwrap()]).await;

    let tags = flv::read(&Clip::default().file().await);
    let operator_header = format!("Authorization: Bearer {TOKEN}");
    let mut said = String::new();
    for name in [KEY.to_owned(), format!("stream?key={KEY}")] {
        let mut peer = Peer::connected(program.rtmp, "live").await;
        let (code, _) = peer.publish(&name).await;
        assert_eq!(code, "NetStream.Publish.Start");
        // Metadata too may hold what an encoder was told.
        let meta = [
            amf::string("@setDataFrame"),
            amf::string("onMetaData"),
            amf::object([("encoder", amf::string("x"))]),
        ];
        let meta = amf::encode(&meta).unwrap();
        peer.message(4, 18, 1, 0, &meta).await.unwrap();
        for tag in &tags {
            peer.message(4, tag.kind, 1, tag.timestamp, &tag.body)
                .await
                .unwrap();
        }
        peer.settle().await;
        let master = viewer::get(program.http, "/live/stream/playlist.m3u8")
            .await
            .text();
        let media = master.lines().rfind(|line| !line.starts_with('#')).unwrap();
        for path in [
            "/",
            "/api/streams",
            "/healthz",
            "/readyz",
            "/metrics",
            "/status",
            "/api/v1/server",
            "/api/v1/streams",
            "/api/v1/streams/live/stream",
            "/api/v1/connections",
            "/api/v1/openapi.json",
            "/live/stream/",
            "/live/stream",
            "/live/stream/ll.m3u8",
            "/nothing/here.m3u8",
            "/live/none/playlist.m3u8",
            &format!("/live/stream/{media}"),
        ] {
            let answer = viewer::get(program.http, path).await;
            said.push_str(&String::from_utf8_lossy(&answer.bytes()));
            let mut operator = viewer::Viewer::connect(program.http).await;
            operator.ask("GET", path, &[&operator_header]).await;
            let answer = operator.response().await;
            assert!(matches!(answer.status(), 200 | 404), "{path}");
            said.push_str(&String::from_utf8_lossy(&answer.bytes()));
        }
        // A second publisher, refused or not, learns no key either.
        let delete = [Amf0Value::Number(1.0)];
        peer.command(0, "deleteStream", Amf0Value::Null, &delete)
            .await
            .unwrap();
        peer.hang_up().await;
        said.push_str(&String::from_utf8_lossy(&peer.expect_close().await));
    }
    // With user and password, and in a place where it is wrong.
    let url = format!("rtmp://me:{KEY}@{}/login/x", program.rtmp);
    short_ffmpeg(&url).finish().await;
    let mut peer = Peer::connected(program.rtmp, "live").await;
    let (_, text) = peer.publish(&format!("other?key={KEY}")).await;
    said.push_str(&text);
    // The key under which nothing is found.
    let answer = viewer::get(program.http, &format!("/live/{KEY}/playlist.m3u8")).await;
    assert_eq!(answer.status(), 404);
    said.push_str(&answer.text());
    program.signal("HUP").await;
    program.wait_for_log("has been read again").await;

    for (what, text) in [("answers", said), ("log", program.log())] {
        for secret in [KEY, TOKEN] {
            let found = text.lines().find(|line| line.contains(secret));
            assert!(found.is_none(), "a secret is in the {what}: {found:?}");
        }
    }
    assert!(
        program.log().lines().count() > 20,
        "there is a log to search"
    );
    let _ = std::fs::remove_dir_all(folder);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_publishes_stays_when_keys_are_reloaded() {
    let folder = std::env::temp_dir().join(format!("lhls-reload-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("lhls.toml");
    std::fs::write(&file, format!("[keys]\n\"live/stream\" = \"{KEY}\"\n")).unwrap();
    let program = Program::start(&["--config", file.to_str().unwrap()]).await;
    let mut first = Peer::connected(program.rtmp, "live").await;
    assert_eq!(first.publish(KEY).await.0, "NetStream.Publish.Start");

    std::fs::write(&file, format!("[keys]\n\"live/stream\" = \"new-{KEY}\"\n")).unwrap();
    program.signal("HUP").await;
    program.wait_for_log("changed: keys").await;
    let mut old = Peer::connected(program.rtmp, "live").await;
    assert_eq!(old.publish(KEY).await.0, "NetStream.Publish.Unauthorized");
    first.settle().await;
    let mut new = Peer::connected(program.rtmp, "live").await;
    assert_eq!(
        new.publish(&format!("new-{KEY}")).await.0,
        "NetStream.Publish.Start"
    );
    let _ = std::fs::remove_dir_all(folder);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_keys_it_is_said_loudly_who_may_publish() {
    let program = Program::start(&[]).await;
    program.wait_for_log("THIS MACHINE ONLY").await;
    let program = Program::start(&["--publish-open"]).await;
    program.wait_for_log("EVERYBODY").await;
    let key = format!("live/stream={KEY}");
    let program = Program::with_environment(&[], &[("LHLS_KEYS", &key)]).await;
    let mut peer = Peer::connected(program.rtmp, "live").await;
    assert_eq!(peer.publish(KEY).await.0, "NetStream.Publish.Start");
    assert!(!program.log().contains("EVERYBODY") && !program.log().contains("THIS MACHINE"));
}

#[tokio::test]
async fn a_new_key_comes_with_instructions() {
    let said = Tool::start(crate::common::program::LHLS, &["key", "new", "live/show"])
        .succeed_silently()
        .await;
    let key = said.lines().next().unwrap();
    assert_eq!(key.len(), 26);
    for text in [
        format!("\"live/show\" = \"{key}\""),
        format!("rtmp://HOST/live/show?key={key}"),
        "http://HOST:9094/live/show/playlist.m3u8".to_owned(),
    ] {
        assert!(said.contains(&text), "{text} is missing: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_streams_of_one_key_for_many() {
    let server = with_keys(&[]);
    let clip = Clip::default();
    for name in ["one", "two"] {
        let with_key = format!("shows/{name}?key=many{KEY}");
        let mut publisher = Publisher::start(&server, &with_key, &clip).await;
        publisher.send_until(2500).await;
        server.wait_for_playlist(&format!("shows/{name}")).await;
    }
    server.stop().await;
}

/// Publishes a clip as `live/stream` and checks what comes out.
async fn ffmpeg(server: &Arc<TestServer>, url: &str) -> Finished {
    let recording = recording::start(server, "live/stream");
    let finished = short_ffmpeg(url).finish().await;
    if finished.code == Some(0) {
        assert!(recording.await.unwrap().check().video.len() >= 50);
        let peers = logs::lines(&["publishing", "stream=live/stream"]);
        assert!(peers.iter().all(|line| !line.contains(KEY)), "{peers:?}");
    }
    eventually("the end of the stream", || {
        (server.metrics.publishers.get() == 0).then_some(())
    })
    .await;
    finished
}

fn short_ffmpeg(url: &str) -> Tool {
    let clip = Clip {
        seconds: 3,
        audio: None,
        ..Clip::default()
    };
    let mut arguments = clip.encoder_arguments(true);
    arguments.push(url.to_owned());
    Tool::ffmpeg(&arguments)
}

/// A pipeline that ends in this sink: three seconds of picture. Each word of the sink is one argument, with the blanks in it.
fn gstreamer(sink: &[String]) -> Tool {
    let source = "videotestsrc is-live=true num-buffers=90 ! video/x-raw,width=320,height=180,framerate=30/1 \
         ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=30 ! h264parse ! flvmux streamable=true !";
    let mut arguments = vec!["-q".to_owned()];
    arguments.extend(source.split_whitespace().map(str::to_owned));
    arguments.extend_from_slice(sink);
    Tool::start("gst-launch-1.0", &arguments)
}
