//! Signed playback addresses, from the multivariant playlist to the last part, and everything that is not one.

use std::net::SocketAddr;
#[cfg(all(feature = "jwt", feature = "tls"))]
use std::sync::Arc;

use lhls::auth::sign;
use lhls::auth::unix_seconds;
use lhls::config::secret::Secret;

use crate::common::media::Clip;
use crate::common::program::LHLS;
use crate::common::publisher::Publisher;
use crate::common::server::TestServer;
use crate::common::tools::Tool;
use crate::common::viewer;
#[cfg(all(feature = "jwt", feature = "tls"))]
use crate::common::within;

const SECRET: &str = "a-secret-of-a-certain-length";

async fn protected() -> (TestServer, Publisher) {
    let server = TestServer::with(&["--playback-secret", SECRET]);
    let mut publisher = Publisher::start(&server, "live/stream", &Clip::default()).await;
    publisher.send_until(4500).await;
    server.wait_for_playlist("live/stream").await;
    (server, publisher)
}

fn token(name: &str, seconds: i64) -> String {
    let expires = unix_seconds().saturating_add_signed(seconds);
    sign::sign(&Secret::new(SECRET), name, expires)
}

async fn status(server: SocketAddr, path: &str) -> u16 {
    viewer::get(server, path).await.status()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_signature_reaches_everything() {
    let (server, _publisher) = protected().await;
    let token = token("live/stream", 600);
    let (script, ffmpeg) = ("Sec-Fetch-Dest: empty", "User-Agent: Lavf/60");
    // Who asks decides which names the first playlist leads to.
    for (entry, player, led_to) in [
        ("playlist.m3u8", "User-Agent: VLC", "/media-"),
        ("playlist.m3u8?asked=9999999", ffmpeg, "/further-"),
        ("short-1.m3u8", ffmpeg, "-s1-"),
        ("playlist.m3u8", script, "/whole-"),
        ("ll.m3u8", "User-Agent: VLC", "/ll1-"),
        ("ll.m3u8", script, "/join1-"),
        ("playlist.m3u8?prefetch", script, "/prefetch-"),
    ] {
        let entry = format!("/@{token}/live/stream/{entry}");
        let reached = walk(&server, &entry, player).await;
        assert!(reached.len() > 5, "{entry}: {reached:?}");
        assert!(
            reached[1..].iter().any(|path| path.contains(led_to)),
            "{led_to}: {reached:?}"
        );
        for path in reached {
            // The same without the signature.
            let bare = path.strip_prefix(&format!("/@{token}")).unwrap();
            assert_eq!(status(server.http, bare).await, 401, "{bare}");
        }
    }
    // As a query it is good for the entrance, which leads to the path.
    let reached = walk(
        &server,
        &format!("/live/stream/playlist.m3u8?token={token}"),
        script,
    )
    .await;
    assert!(
        reached[1].starts_with(&format!("/@{token}/live/stream/")),
        "{reached:?}"
    );
    server.stop().await;
}

/// Follows every reference of a playlist and of those below it, as `player`, a header, says who asks; all must be there. Returns what
/// was fetched.
async fn walk(server: &TestServer, entry: &str, player: &str) -> Vec<String> {
    let mut reached = vec![entry.to_owned()];
    let mut next = 0;
    while let Some(path) = reached.get(next).cloned() {
        next += 1;
        let announced = path.ends_with(".ts") && reached.len() > 3;
        let mut connection = viewer::Viewer::connect(server.http).await;
        // A whole segment's head comes with its end, and those announced here do not even begin.
        let file = path.rsplit('/').next().unwrap();
        let query = if file.contains("-w") { "?stream" } else { "" };
        connection
            .ask("GET", &format!("{path}{query}"), &[player])
            .await;
        let head = connection.head().await;
        assert_eq!(head.status, 200, "{path}");
        if announced || !head.header("content-type").unwrap().contains("mpegurl") {
            assert_eq!(
                head.header("cache-control"),
                Some("public, max-age=600, immutable"),
                "caches may keep {path}"
            );
            continue;
        }
        let mut text = String::new();
        while let Some(chunk) = connection.next_chunk().await {
            text.push_str(&String::from_utf8_lossy(&chunk.bytes));
        }
        let folder = path.split('?').next().unwrap().rsplit_once('/').unwrap().0;
        let uris = text
            .lines()
            .filter_map(|line| match line.split_once("URI=\"") {
                Some((_, rest)) if !line.starts_with("#EXT-X-PRELOAD") => rest.split('"').next(),
                _ => Some(line).filter(|line| !line.is_empty() && !line.starts_with('#')),
            })
            // Who joins is also told of parts that are to come.
            .take(6);
        for uri in uris {
            let path = join(folder, uri);
            if !reached.contains(&path) {
                reached.push(path);
            }
        }
    }
    reached
}

fn join(folder: &str, reference: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').collect();
    for part in reference.split('/') {
        match part {
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_in_any_byte_it_opens_nothing() {
    let (server, _publisher) = protected().await;
    let token = token("live/stream", 600);
    let path = format!("/@{token}/live/stream/playlist.m3u8");
    assert_eq!(status(server.http, &path).await, 200);
    let mut tried = 0;
    // Every byte of the signature and of the name it is for.
    for position in 2..2 + token.len() + "/live/stream".len() {
        let mut bytes = path.clone().into_bytes();
        for change in [1, 2, 32] {
            bytes[position] = path.as_bytes()[position] ^ change;
            let changed = String::from_utf8_lossy(&bytes).into_owned();
            let usable = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./@".contains(&byte);
            if !changed.bytes().all(usable) {
                continue;
            }
            let slash = path.as_bytes()[position] == b'/' || bytes[position] == b'/';
            let got = status(server.http, &changed).await;
            // Another slash makes another path of it, which may not even be one.
            assert!(
                got == 403 || (slash && matches!(got, 401 | 404)),
                "{got}: {changed}"
            );
            tried += 1;
        }
    }
    assert!(tried > 100, "{tried}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said() {
    let (server, _publisher) = protected().await;
    let good = token("live/stream", 600);
    let expired = token("live/stream", -1);
    let other = token("live/other", 600);
    for (path, status, text) in [
        (
            "/live/stream/playlist.m3u8".to_owned(),
            401,
            "needs a signed address",
        ),
        (
            "/live/none/playlist.m3u8".to_owned(),
            401,
            "needs a signed address",
        ),
        (
            format!("/@{expired}/live/stream/playlist.m3u8"),
            403,
            "has expired",
        ),
        (
            format!("/@{other}/live/stream/playlist.m3u8"),
            403,
            "does not match",
        ),
        (
            format!("/@{good}/live/other/playlist.m3u8"),
            403,
            "does not match",
        ),
        (
            "/@nonsense/live/stream/playlist.m3u8".to_owned(),
            403,
            "no signature",
        ),
        (
            "/@/live/stream/playlist.m3u8".to_owned(),
            403,
            "no signature",
        ),
        (
            format!("/@{}/live/stream/playlist.m3u8", "x".repeat(5000)),
            414,
            "longer",
        ),
    ] {
        let answer = viewer::get(server.http, &path).await;
        assert_eq!(answer.status(), status, "{path}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        assert_eq!(answer.header("www-authenticate").is_some(), status == 401);
        let said = answer.text();
        assert!(said.contains(text), "{path}: {said}");
        assert!(!said.contains(SECRET) && !said.contains(&good));
    }
    // In a header it opens too, but then no shared cache may keep what is sent.
    let master = viewer::request(
        server.http,
        "GET",
        "/live/stream/playlist.m3u8",
        &[&format!("Authorization: Bearer {good}")],
    )
    .await;
    assert_eq!(master.status(), 200);
    let playlist = viewer::get(server.http, &format!("/@{good}/live/stream/playlist.m3u8")).await;
    let playlist = playlist.text();
    let media = playlist
        .lines()
        .rfind(|line| !line.starts_with('#'))
        .unwrap();
    let playlist = viewer::get(server.http, &format!("/@{good}/live/stream/{media}")).await;
    let playlist = playlist.text();
    let segment = playlist.lines().find(|line| line.ends_with(".ts")).unwrap();
    let by_header = viewer::request(
        server.http,
        "GET",
        &format!("/live/stream/{segment}"),
        &[&format!("Authorization: Bearer {good}")],
    )
    .await;
    assert_eq!(by_header.status(), 200);
    assert_eq!(
        by_header.header("cache-control"),
        Some("private, max-age=600, immutable")
    );
    // The pages are for everybody; what they play is not.
    assert_eq!(status(server.http, "/live/stream/").await, 200);
    assert_eq!(
        status(server.http, &format!("/@{good}/live/stream/")).await,
        200
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_that_lead_elsewhere_lead_nowhere() {
    let (server, _publisher) = protected().await;
    let good = token("live/stream", 600);
    let other = token("live/other", 600);
    for path in [
        "/live/other/../stream/playlist.m3u8",
        "/live/./stream/playlist.m3u8",
        "/live//stream/playlist.m3u8",
        "//live/stream/playlist.m3u8",
        "/live/%73tream/playlist.m3u8",
        "/live/stream/%2e%2e/stream/playlist.m3u8",
        "/live\\stream\\playlist.m3u8",
        "/live/stream;x/playlist.m3u8",
        "/web/../live/stream/playlist.m3u8",
        "/../../etc/passwd",
        "/web/..%2f..%2fetc%2fpasswd",
        "/live/stream/..%00/playlist.m3u8",
        "/@../live/stream/playlist.m3u8",
        "/LIVE/STREAM/playlist.m3u8",
    ] {
        for prefix in [String::new(), format!("/@{other}")] {
            let path = format!("{prefix}{path}");
            let mut connection = viewer::Viewer::connect(server.http).await;
            connection.ask("GET", &path, &[]).await;
            let head = connection.head().await;
            assert!(
                matches!(head.status, 400 | 401 | 403 | 404),
                "{} {path}",
                head.status
            );
        }
    }
    // A signature within a signature is none.
    assert_ne!(
        status(
            server.http,
            &format!("/@{good}/@{good}/live/stream/playlist.m3u8")
        )
        .await,
        200
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_player_plays_what_the_command_has_signed() {
    let (server, publisher) = protected().await;
    let url = server.playlist_url("live/stream");
    let signed = Tool::start(
        LHLS,
        &["sign", "--playback-secret", SECRET, &url, "--ttl", "10m"],
    )
    .succeed_silently()
    .await;
    publisher.play(4.0).await;
    let arguments = [
        "-v",
        "error",
        "-show_entries",
        "stream=codec_name",
        "-of",
        "csv=p=0",
        signed.trim(),
    ];
    let said = Tool::start("ffprobe", &arguments).succeed().await;
    assert!(said.contains("h264") && said.contains("aac"), "{said}");
    let refused = Tool::start("ffprobe", &["-v", "error", &url])
        .finish()
        .await;
    assert!(refused.stderr.contains("401"), "{}", refused.stderr);
    let nothing = Tool::start(LHLS, &["sign", &url]).finish().await;
    assert_eq!(nothing.code, Some(2));
    assert!(
        nothing.stderr.contains("no secret to sign with"),
        "{}",
        nothing.stderr
    );
    server.stop().await;
}

/// By keys of a file, and by keys that are fetched.
#[cfg(feature = "jwt")]
#[tokio::test(flavor = "multi_thread")]
async fn json_web_tokens() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let keys = include_str!("../../src/auth/testdata/keys.json");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", keys.len());
            let _ = stream.write_all(format!("{head}{keys}").as_bytes()).await;
        }
    });
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/auth/testdata/keys.json");
    for source in [file, &url] {
        let server = TestServer::with(&["--playback-jwks", source]);
        let mut publisher = Publisher::start(&server, "live/stream", &Clip::default()).await;
        publisher.send_until(4500).await;
        server.wait_for_playlist("live/stream").await;
        for token in [
            include_str!("../../src/auth/testdata/rs256.jwt"),
            include_str!("../../src/auth/testdata/es256.jwt"),
        ] {
            let entry = format!("/@{token}/live/stream/playlist.m3u8");
            while status(server.http, &entry).await == 403 && source == url {
                // The keys are on their way.
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            assert!(walk(&server, &entry, "User-Agent: VLC").await.len() > 5);
            let other = format!("/@{token}/shows/stream/playlist.m3u8");
            let answer = viewer::get(server.http, &other).await;
            assert_eq!(answer.status(), 403);
            assert!(answer.text().contains("for other streams"));
        }
        assert_eq!(status(server.http, "/live/stream/playlist.m3u8").await, 401);
        server.stop().await;
    }
}

/// Keys that are fetched over HTTPS, from somebody whom the system believes.
#[cfg(all(feature = "jwt", feature = "tls"))]
#[tokio::test(flavor = "multi_thread")]
async fn keys_over_https() {
    use lhls::tls::{Acceptor, Certificates, Files};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use crate::common::program::Program;
    use crate::common::tls::Pem;

    let pem = Pem::new("jwks");
    let certificates = Certificates::load(Files {
        certificate: pem.certificate(),
        key: pem.key(),
    });
    let acceptor = Acceptor::https(Arc::new(certificates.unwrap())).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/jwks.json", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let keys = include_str!("../../src/auth/testdata/keys.json");
        while let Ok((stream, _)) = listener.accept().await {
            let (mut stream, _) = acceptor.accept(stream).await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", keys.len());
            let _ = stream.write_all(format!("{head}{keys}").as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    let believed = pem.certificate();
    let variables = [("SSL_CERT_FILE", believed.to_str().unwrap())];
    let program = Program::with_environment(&["--playback-jwks", &url], &variables).await;
    let token = include_str!("../../src/auth/testdata/rs256.jwt");
    let entry = format!("/@{token}/live/stream/playlist.m3u8");
    // Let in, there is nothing to play; before the keys have come, nobody is let in.
    within("the keys", async {
        while status(program.http, &entry).await != 404 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    let other = format!("/@{token}/shows/stream/playlist.m3u8");
    assert_eq!(status(program.http, &other).await, 403);
}
