//! Hooks: what is asked and told, what the answers do, and what happens without one.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use lhls::auth::mac::{hex, hmac_sha256};
use lhls::net::{Preamble, Wire};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::common::media::Clip;
use crate::common::peer::Peer;
use crate::common::publisher::Publisher;
use crate::common::server::TestServer;
use crate::common::tools::Tool;
use crate::common::{eventually, viewer};

const SECRET: &str = "a secret of hooks";

/// The operator's service: answers as it is told, and keeps what it was sent.
struct Service {
    address: SocketAddr,
    sent: Arc<Mutex<Vec<Value>>>,
    answer: Arc<Mutex<Answer>>,
}

type Answer = Box<dyn Fn(&Value) -> (u16, Value) + Send>;

impl Service {
    async fn start(answer: impl Fn(&Value) -> (u16, Value) + Send + 'static) -> Self {
        Self::begin(Preamble::default(), answer).await
    }

    /// The same with what its connections begin with, such as TLS.
    async fn begin(
        preamble: Preamble,
        answer: impl Fn(&Value) -> (u16, Value) + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let service = Self {
            address: listener.local_addr().unwrap(),
            sent: Arc::default(),
            answer: Arc::new(Mutex::new(Box::new(answer))),
        };
        let (sent, answer) = (Arc::clone(&service.sent), Arc::clone(&service.answer));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (sent, answer) = (Arc::clone(&sent), Arc::clone(&answer));
                let preamble = preamble.clone();
                tokio::spawn(async move {
                    // Who does not believe the certificate goes away.
                    let Some(mut stream) = begin(stream, preamble).await else {
                        return;
                    };
                    let (head, body) = read_request(&mut *stream).await;
                    check_signature(&head, &body);
                    let event: Value = serde_json::from_str(&body).unwrap();
                    let (status, reply) = answer.lock().unwrap()(&event);
                    sent.lock().unwrap().push(event);
                    let reply = reply.to_string();
                    let text = format!(
                        "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{reply}",
                        reply.len()
                    );
                    let _ = stream.write_all(text.as_bytes()).await;
                    let _ = stream.shutdown().await;
                });
            }
        });
        service
    }

    fn url(&self) -> String {
        format!("http://{}/hook?x=1", self.address)
    }

    fn answer(&self, answer: impl Fn(&Value) -> (u16, Value) + Send + 'static) {
        *self.answer.lock().unwrap() = Box::new(answer);
    }

    fn of(&self, event: &str) -> Vec<Value> {
        let sent = self.sent.lock().unwrap();
        let of_this = sent.iter().filter(|sent| sent["event"] == event);
        of_this.cloned().collect()
    }

    async fn wait_for(&self, event: &str) -> Value {
        eventually(event, || self.of(event).pop()).await
    }
}

async fn begin(stream: TcpStream, preamble: Preamble) -> Option<Box<dyn Wire>> {
    #[cfg(feature = "tls")]
    if let Some(acceptor) = preamble.tls {
        let (stream, _) = acceptor.accept(stream).await.ok()?;
        return Some(Box::new(stream));
    }
    let _ = preamble;
    Some(Box::new(stream))
}

async fn read_request(stream: &mut dyn Wire) -> (String, String) {
    let mut bytes = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer).await.unwrap();
        assert!(count > 0, "a whole request");
        bytes.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = header(head, "content-length").map_or(0, |n| n.parse().unwrap());
        if body.len() >= length {
            return (head.to_owned(), body.to_owned());
        }
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (own, value) = line.split_once(": ")?;
        own.eq_ignore_ascii_case(name).then_some(value)
    })
}

/// As the documentation tells it.
fn check_signature(head: &str, body: &str) {
    assert!(head.starts_with("POST /hook?x=1 HTTP/1.1"), "{head}");
    let signature = header(head, "x-lhls-signature").unwrap();
    let (time, mac) = signature.split_once(',').unwrap();
    let time = time.strip_prefix("t=").unwrap();
    let expected = hmac_sha256(SECRET.as_bytes(), &[time.as_bytes(), b".", body.as_bytes()]);
    assert_eq!(mac.strip_prefix("v1=").unwrap(), hex(&expected));
}

fn server(service: &Service, options: &[&str]) -> TestServer {
    let url = service.url();
    let mut all = vec!["--hooks-url", &url, "--hooks-secret", SECRET];
    all.extend(options);
    TestServer::with(&all)
}

async fn publish(server: &TestServer, name: &str) -> (Peer, String, String) {
    let (app, name) = name.split_once('/').unwrap();
    let mut peer = Peer::connected(server.rtmp, app).await;
    let (code, text) = peer.publish(name).await;
    (peer, code, text)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hook_knows_the_keys() {
    let service = Service::start(|asked| match asked["name"].as_str() {
        Some("key-of-a") => (
            200,
            json!({"stream": "shows/a", "options": {"segment-duration": "500ms"}}),
        ),
        Some("late") => (
            200,
            json!({"allow": false, "reason": "your subscription has run out"}),
        ),
        _ => (403, json!({"reason": "who are you?"})),
    })
    .await;
    let server = server(&service, &[]);
    let clip = Clip::default();
    let mut publisher = Publisher::start(&server, "live/key-of-a", &clip).await;
    publisher.send_until(3500).await;
    server.wait_for_playlist("shows/a").await;
    assert!(server.registry.find("live/key-of-a").is_none());
    let asked = service.wait_for("publish").await;
    assert_eq!(
        (&asked["app"], &asked["address"]),
        (&json!("live"), &json!("127.0.0.1"))
    );
    assert_eq!(
        asked["stream"],
        Value::Null,
        "no key of our own has decided"
    );

    for (name, reason) in [
        ("live/late", "your subscription has run out"),
        ("live/unknown", "who are you?"),
    ] {
        let (mut peer, code, text) = publish(&server, name).await;
        assert_eq!(
            (&code[..], &text[..]),
            ("NetStream.Publish.Unauthorized", reason)
        );
        let rest = peer.expect_close().await;
        assert!(!String::from_utf8_lossy(&rest).contains("Publish.Start"));
    }
    // A real encoder shows the reason to its user.
    let url = server.rtmp_url("live/late");
    let mut arguments = clip.encoder_arguments(true);
    arguments.push(url);
    let finished = Tool::start("ffmpeg", &arguments).finish().await;
    assert!(
        finished.stderr.contains("your subscription has run out"),
        "{}",
        finished.stderr
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_and_the_hook_must_both_agree() {
    let service = Service::start(|asked| match asked["stream"].as_str() {
        Some("live/stream") => (200, json!({})),
        _ => (200, json!({"allow": false})),
    })
    .await;
    let server = server(
        &service,
        &["--keys", "live/stream=aaaaaaaaaaaa,live/other=bbbbbbbbbbbb"],
    );
    let (_peer, code, _) = publish(&server, "live/aaaaaaaaaaaa").await;
    assert_eq!(code, "NetStream.Publish.Start");
    let (_, code, text) = publish(&server, "live/bbbbbbbbbbbb").await;
    assert_eq!(code, "NetStream.Publish.Unauthorized");
    assert!(text.contains("has been denied"), "{text}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_is_down() {
    let service = Service::start(|_| (503, json!({}))).await;
    // By default nobody may.
    let closed = server(&service, &["--keys", "live/stream=aaaaaaaaaaaa"]);
    let (_, code, text) = publish(&closed, "live/aaaaaaaaaaaa").await;
    assert_eq!(code, "NetStream.Publish.Unauthorized");
    assert!(text.contains("cannot be found out at the moment"), "{text}");
    closed.stop().await;
    // Or keys decide alone.
    let open = server(
        &service,
        &[
            "--keys",
            "live/stream=aaaaaaaaaaaa",
            "--hooks-when-down",
            "allow",
        ],
    );
    let (_peer, code, _) = publish(&open, "live/aaaaaaaaaaaa").await;
    assert_eq!(code, "NetStream.Publish.Start");
    let (_, code, _) = publish(&open, "live/bbbbbbbbbbbb").await;
    assert_eq!(code, "NetStream.Publish.Unauthorized");
    open.stop().await;
    // One that does not answer at all is down in time.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let server = TestServer::with(&["--hooks-url", &url, "--hooks-timeout", "200ms"]);
    let (_, code, _) = publish(&server, "live/stream").await;
    assert_eq!(code, "NetStream.Publish.Unauthorized");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn notices_tell_the_life_of_a_stream() {
    let failed = Arc::new(Mutex::new(false));
    let first = Arc::clone(&failed);
    let service = Service::start(move |told| {
        // The first is refused once, and comes again.
        if told["event"] == "publish-start" && !std::mem::replace(&mut *first.lock().unwrap(), true)
        {
            return (500, json!({}));
        }
        (200, json!({}))
    })
    .await;
    let server = server(
        &service,
        &["--reconnect-window", "3s", "--hooks-viewers-interval", "1s"],
    );
    let clip = Clip::default();
    let mut publisher = Publisher::start(&server, "live/stream", &clip).await;
    publisher.send_until(2500).await;
    server.wait_for_playlist("live/stream").await;
    let started = eventually("the second attempt", || {
        service.of("publish-start").get(1).cloned()
    })
    .await;
    assert_eq!(started["stream"], "live/stream");
    let master = viewer::get(server.http, "/live/stream/playlist.m3u8")
        .await
        .text();
    let media = master.lines().rfind(|line| !line.starts_with('#')).unwrap();
    let mut watching = viewer::Viewer::connect(server.http).await;
    watching
        .ask("GET", &format!("/live/stream/{media}"), &[])
        .await;
    watching.response().await;
    eventually("one viewer", || {
        let told = service.of("viewers");
        told.into_iter().find(|told| told["viewers"] == 1)
    })
    .await;
    publisher.vanish();
    let ended = service.wait_for("publish-end").await;
    assert!(ended["bytes"].as_u64().unwrap() > 1000, "{ended}");
    let publisher = Publisher::start(&server, "live/stream", &clip).await;
    let again = service.wait_for("publish-reconnect").await;
    assert_eq!(
        (&again["stream"], &again["takeover"]),
        (&json!("live/stream"), &json!(false))
    );
    publisher.vanish();
    let over = service.wait_for("stream-ended").await;
    assert_eq!(over["stream"], "live/stream");
    assert!(over["time"].as_str().unwrap().starts_with("20"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn viewers_are_asked_about_once() {
    let service = Service::start(|asked| match asked["token"].as_str() {
        Some("good") => (200, json!({})),
        Some(_) => (403, json!({})),
        None => (200, json!({"allow": false})),
    })
    .await;
    let server = server(&service, &["--hooks-events", "play"]);
    let mut publisher = Publisher::start(&server, "live/stream", &Clip::default()).await;
    publisher.send_until(3500).await;
    server.wait_for_playlist("live/stream").await;
    let mut tasks = Vec::new();
    for _ in 0..50 {
        let http = server.http;
        tasks.push(tokio::spawn(async move {
            viewer::get(http, "/@good/live/stream/playlist.m3u8")
                .await
                .status()
        }));
    }
    for task in tasks {
        assert_eq!(task.await.unwrap(), 200);
    }
    assert_eq!(service.of("play").len(), 1);
    for (path, status) in [
        ("/live/stream/playlist.m3u8", 403),
        ("/live/stream/playlist.m3u8", 403),
        ("/@bad/live/stream/playlist.m3u8", 403),
        ("/live/stream/playlist.m3u8?token=good", 200),
    ] {
        assert_eq!(
            viewer::get(server.http, path).await.status(),
            status,
            "{path}"
        );
    }
    assert_eq!(service.of("play").len(), 3);
    service.answer(|_| (500, json!({})));
    let down = viewer::get(server.http, "/@new/live/stream/playlist.m3u8").await;
    assert_eq!(down.status(), 503);
    server.stop().await;
}

/// Over HTTPS, to a service that shows a certificate which the system believes, and one that it does not.
#[cfg(feature = "tls")]
#[tokio::test(flavor = "multi_thread")]
async fn a_hook_over_https() {
    use lhls::tls::{Acceptor, Certificates, Files};

    use crate::common::program::Program;
    use crate::common::tls::Pem;
    let (pem, stranger) = (Pem::new("hook"), Pem::new("no-hook"));
    for (shown, code) in [
        (&pem, "NetStream.Publish.Start"),
        (&stranger, "NetStream.Publish.Unauthorized"),
    ] {
        let certificates = Certificates::load(Files {
            certificate: shown.certificate(),
            key: shown.key(),
        });
        let preamble = Preamble {
            tls: Some(Acceptor::rtmps(Arc::new(certificates.unwrap())).unwrap()),
            ..Preamble::default()
        };
        let service = Service::begin(preamble, |_| (200, json!({"stream": "shows/evening"}))).await;
        let url = service.url().replace("http://", "https://");
        let options = ["--hooks-url", &url, "--hooks-secret", SECRET];
        // Instead of the system's root certificates.
        let believed = pem.certificate();
        let variables = [("SSL_CERT_FILE", believed.to_str().unwrap())];
        let program = Program::with_environment(&options, &variables).await;
        let mut peer = Peer::connected(program.rtmp, "live").await;
        let (got, text) = peer.publish("anything").await;
        assert_eq!(got, code, "{text}");
        let asked = service.of("publish").len();
        assert_eq!(
            asked,
            usize::from(got.ends_with("Start")),
            "questions heard"
        );
        if asked == 0 {
            program.wait_for_log("certificate").await;
        }
    }
}
