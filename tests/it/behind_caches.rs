//! Behind real caches with the configurations that docs/cdn.md tells operators to use: many viewers, one request to the server where the
//! cache can join them, and what grows is passed on while it grows.
//!
//! The publisher stands still in the middle of a segment until the viewers have what there is, so nothing here depends on how fast
//! anything is.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lhls::metrics::Request;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::common::eventually;
use crate::common::media::Clip;
use crate::common::playlist::{self, Playlist};
use crate::common::publisher::Publisher;
use crate::common::server::TestServer;
use crate::common::tools::Tool;
use crate::common::viewer::{Response, Viewer, request};

const VIEWERS: usize = 200;
const SCRIPT: &str = "Sec-Fetch-Dest: empty";

#[tokio::test(flavor = "multi_thread")]
async fn varnish_asks_once_for_all_and_passes_on_what_grows() {
    let mut live = Live::start(12).await;
    let cache = Cache::varnish(live.server.http).await;
    let at = cache.address;
    let (list, whole) = (live.list(&[]).await, live.list(&[SCRIPT]).await);
    let [growing, announced] = [2, 3].map(|index| live.path(&list.entries[index].uri));
    let held = live.path(&whole.entries[2].uri);

    // Scripts wait for the whole segment, others get at once what there is; neither waits for the other.
    let scripts = Crowd::ask(at, &held).await;
    let mut early = Crowd::ask(at, &announced).await;
    early.heads().await;
    let mut viewers = Crowd::ask(at, &growing).await;
    viewers.heads().await;
    viewers.read(live.grown(&growing).await).await;
    live.publisher.send_until(2700).await;
    viewers.read(live.grown(&growing).await).await;

    // A reload that waits for what comes next, and the part that is hinted.
    let (part, reload) = (live.hinted_part().await, live.blocking_reload().await);
    let reloaded = live.asked("media_low_latency", 200);
    let (parts, reloads) = (Crowd::ask(at, &part).await, Crowd::ask(at, &reload).await);
    live.publisher.send_until(3300).await;
    let bytes = viewers.rest().await;
    assert!(scripts.answer().await.bytes() == bytes);
    assert_eq!(parts.answer().await.status(), 200);
    let text = reloads.answer().await.text();
    let file = part.rsplit('/').next().unwrap();
    assert!(text.contains(&format!("URI=\"{file}\"")), "{text}");
    early.read(188).await;
    // One each for `whole`, `announced` and `growing`, and the two of `grown`, which asks the server itself.
    assert_eq!(live.asked("segment", 200), 3 + 2);
    assert_eq!(live.asked("part", 200), 1);
    assert_eq!(live.asked("media_low_latency", 200) - reloaded, 1);

    // What is finished comes from the cache, with its age.
    let again = request(at, "GET", &growing, &["Range: bytes=0-"]).await;
    assert!(again.bytes() == bytes && again.header("age").is_some());
    assert_eq!(live.asked("segment", 200), 3 + 2);

    for (path, headers, millis) in [
        ("/live/a/playlist.m3u8", &["Accept-Encoding: gzip"][..], 100),
        ("/live/a/media-12.m3u8", &[], 100),
        ("/live/nothing/playlist.m3u8", &[], 1000),
    ] {
        live.is_asked_at_most_every(millis, at, path, headers).await;
    }
    live.publisher.finish().await;
    live.server.assert_no_panics();
}

#[tokio::test(flavor = "multi_thread")]
async fn varnish_tells_those_who_wait_in_vain_together() {
    let live = Live::start(1).await;
    let cache = Cache::varnish(live.server.http).await;
    let start = Instant::now();
    let reload = live.blocking_reload().await;
    let vain = Crowd::of(20, cache.address, &reload).await;
    assert_eq!(vain.answer().await.status(), 503);
    // Each is held for three seconds; on a slow machine some may come when the first have been told.
    let most = 1 + start.elapsed().as_secs() / 3;
    assert!(live.asked("media_low_latency", 503) <= most);
    live.publisher.finish().await;
    live.server.assert_no_panics();
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_asks_once_for_what_is_whole_and_passes_on_what_grows() {
    let mut live = Live::start(12).await;
    let cache = Cache::nginx(live.server.http).await;
    let at = cache.address;
    let (list, whole) = (live.list(&[]).await, live.list(&[SCRIPT]).await);
    let [growing, announced] = [2, 3].map(|index| live.path(&list.entries[index].uri));
    let held = live.path(&whole.entries[2].uri);

    let mut early = Crowd::ask(at, &announced).await;
    early.heads().await;
    let mut viewers = Crowd::ask(at, &growing).await;
    viewers.heads().await;
    viewers.read(live.grown(&growing).await).await;
    live.publisher.send_until(2700).await;
    viewers.read(live.grown(&growing).await).await;
    let before = live.asked("segment", 200);
    let scripts = Crowd::ask(at, &held).await;
    live.publisher.send_until(3300).await;
    let bytes = viewers.rest().await;
    assert!(scripts.answer().await.bytes() == bytes);
    assert_eq!(live.asked("segment", 200) - before, 1);
    early.read(188).await;

    // What is finished comes from the cache.
    assert!(request(at, "GET", &growing, &[]).await.bytes() == bytes);
    let before = live.asked("segment", 200);
    let all = Crowd::ask(at, &growing).await.answer().await;
    assert!(all.status() == 200 && all.bytes() == bytes);
    assert_eq!(live.asked("segment", 200), before);
    for (path, headers, millis) in [
        ("/live/a/playlist.m3u8", &["Accept-Encoding: gzip"][..], 100),
        ("/live/a/media-12.m3u8", &[], 100),
        ("/live/nothing/playlist.m3u8", &[], 100),
    ] {
        live.is_asked_at_most_every(millis, at, path, headers).await;
    }
    live.publisher.finish().await;
    live.server.assert_no_panics();
}

/// nginx as it comes, without a cache, buffers what it passes on; growing segments tell it not to.
#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_nobody_has_tuned_passes_on_what_grows() {
    let mut live = Live::start(12).await;
    let port = free_port();
    let site = format!(
        "server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://{}; proxy_http_version 1.1; }} }}",
        live.server.http
    );
    let proxy = Cache::start_nginx(port, &site).await;
    let growing = live.path(&live.list(&[]).await.entries[2].uri);
    let mut viewer = Crowd::of(1, proxy.address, &growing).await;
    viewer.heads().await;
    viewer.read(live.grown(&growing).await).await;
    // Picture by picture: no piece waits for a buffer to fill.
    for _ in 0..5 {
        live.publisher.send_one().await;
        viewer.read(live.grown(&growing).await).await;
    }
    live.publisher.finish().await;
    live.server.assert_no_panics();
}

/// A stream that stands still in the middle of its third segment.
struct Live {
    server: Arc<TestServer>,
    publisher: Publisher,
    low_latency: String,
}

impl Live {
    /// Reloads are held for three target durations: with long ones, all viewers are there before.
    async fn start(target_duration: u32) -> Self {
        let target_duration = target_duration.to_string();
        let options = ["--target-duration", &target_duration];
        let server = Arc::new(TestServer::with(&options));
        let mut publisher = Publisher::start(&server, "live/a", &Clip::default()).await;
        publisher.send_until(2600).await;
        server.wait_for_playlist("live/a").await;
        let low_latency = playlist::media_path_of(&server, "live/a", "ll.m3u8").await;
        Self {
            server,
            publisher,
            low_latency,
        }
    }

    fn path(&self, file: &str) -> String {
        format!("/live/a/{file}")
    }

    /// The playlist that a client with these headers is led to, from the server itself.
    async fn list(&self, headers: &[&str]) -> Playlist {
        let master = request(self.server.http, "GET", "/live/a/playlist.m3u8", headers).await;
        let text = master.text();
        let media = text.lines().rfind(|line| !line.starts_with('#')).unwrap();
        playlist::fetch(&self.server, &self.path(media)).await
    }

    /// Bytes there are of a growing segment, by the server itself.
    async fn grown(&self, path: &str) -> usize {
        let mut viewer = Viewer::connect(self.server.http).await;
        viewer.ask("GET", path, &[]).await;
        viewer.head().await;
        viewer.next_chunk().await.unwrap().bytes.len()
    }

    async fn parts(&self) -> String {
        let response = request(self.server.http, "GET", &self.low_latency, &[]).await;
        response.text()
    }

    async fn hinted_part(&self) -> String {
        let text = self.parts().await;
        let (_, hint) = text.rsplit_once("TYPE=PART,URI=\"").unwrap();
        self.path(hint.split('"').next().unwrap())
    }

    /// The reload that waits for the part that is hinted.
    async fn blocking_reload(&self) -> String {
        let text = self.parts().await;
        let (_, first) = text.split_once("#EXT-X-MEDIA-SEQUENCE:").unwrap();
        let first: usize = first.lines().next().unwrap().parse().unwrap();
        let (_, growing) = text.rsplit_once("#EXTINF:").unwrap();
        let sequence = first + text.matches("#EXTINF:").count();
        let part = growing.matches("#EXT-X-PART:").count();
        format!("{}?_HLS_msn={sequence}&_HLS_part={part}", self.low_latency)
    }

    fn asked(&self, kind: &'static str, status: u16) -> u64 {
        let requests = &self.server.metrics.http_requests;
        requests.get_or_create(&Request { kind, status }).get()
    }

    async fn is_asked_at_most_every(
        &self,
        millis: u64,
        at: SocketAddr,
        path: &str,
        headers: &[&str],
    ) {
        let asked = || -> u64 {
            let kinds = ["multivariant", "media"];
            let of = |kind| self.asked(kind, 200) + self.asked(kind, 404);
            kinds.into_iter().map(of).sum()
        };
        let (before, start) = (asked(), Instant::now());
        let first = request(at, "GET", path, headers).await;
        for _ in 1..VIEWERS {
            let other = request(at, "GET", path, headers).await;
            assert_eq!(other.status(), first.status());
            let coding = "content-encoding";
            assert_eq!(other.header(coding), first.header(coding));
        }
        let moments = 2 + start.elapsed().as_millis() as u64 / millis;
        let asked = asked() - before;
        assert!(
            asked <= moments,
            "{path}: asked {asked} times in {moments} moments"
        );
    }
}

/// Viewers that have all asked for the same.
struct Crowd(Vec<(Viewer, Vec<u8>)>);

impl Crowd {
    async fn ask(at: SocketAddr, path: &str) -> Self {
        Self::of(VIEWERS, at, path).await
    }

    async fn of(count: usize, at: SocketAddr, path: &str) -> Self {
        let mut viewers = Vec::new();
        for _ in 0..count {
            let mut viewer = Viewer::connect(at).await;
            viewer.ask("GET", path, &[]).await;
            viewers.push((viewer, Vec::new()));
        }
        Self(viewers)
    }

    async fn heads(&mut self) {
        for (viewer, _) in &mut self.0 {
            assert_eq!(viewer.head().await.status, 200);
        }
    }

    /// Until each has so many bytes.
    async fn read(&mut self, length: usize) {
        for (viewer, bytes) in &mut self.0 {
            while bytes.len() < length {
                let chunk = viewer.next_chunk().await;
                bytes.extend(chunk.expect("more is to come").bytes);
            }
        }
    }

    /// Until each has everything, which is the same for all.
    async fn rest(self) -> Vec<u8> {
        let mut all = Vec::new();
        for (mut viewer, mut bytes) in self.0 {
            while let Some(chunk) = viewer.next_chunk().await {
                bytes.extend(chunk.bytes);
            }
            all.push(bytes);
        }
        assert!(all.windows(2).all(|pair| pair[0] == pair[1]));
        all.swap_remove(0)
    }

    /// The answer, which is the same for all.
    async fn answer(self) -> Response {
        let mut first: Option<Response> = None;
        for (mut viewer, _) in self.0 {
            let response = viewer.response().await;
            let first = first.get_or_insert_with(|| response.clone());
            assert_eq!(response.status(), first.status());
            assert!(response.bytes() == first.bytes());
        }
        first.unwrap()
    }
}

/// A cache of somebody else's, in front of the server; ends when dropped.
struct Cache {
    address: SocketAddr,
    _program: Tool,
}

impl Cache {
    async fn varnish(server: SocketAddr) -> Self {
        let port = free_port();
        let directory = directory(port);
        let text = include_str!("../../docs/cdn/varnish.vcl");
        let text = replaced(
            text,
            ".port = \"9094\"",
            &format!(".port = \"{}\"", server.port()),
        );
        let file = directory.join("lhls.vcl");
        std::fs::write(&file, text).unwrap();
        let (listen, work) = (format!("127.0.0.1:{port}"), directory.join("work"));
        let arguments = [
            "-F", // Stays in the foreground.
            "-j",
            "none",
            "-a",
            &listen,
            "-f",
            path(&file),
            "-n",
            path(&work),
            "-s",
            "malloc,64m",
        ];
        Self::start("varnishd", &arguments, port).await
    }

    async fn nginx(server: SocketAddr) -> Self {
        let port = free_port();
        let text = include_str!("../../docs/cdn/nginx.conf");
        let text = replaced(text, "127.0.0.1:9094", &server.to_string());
        let text = replaced(
            &text,
            "listen 8080;",
            &format!("listen 127.0.0.1:{port} backlog=512;"),
        );
        let cache = directory(port).join("cache");
        let text = replaced(&text, "/var/cache/nginx/lhls", path(&cache));
        Self::start_nginx(port, &text).await
    }

    /// nginx with this in its http context.
    async fn start_nginx(port: u16, site: &str) -> Self {
        let directory = directory(port);
        // One process, so that it goes when it is killed.
        let main = format!(
            "daemon off; master_process off; pid {0}/pid; error_log {0}/errors; events {{ worker_connections 2048; }}\n\
             http {{ access_log off; client_body_temp_path {0}/body; proxy_temp_path {0}/proxy; fastcgi_temp_path {0}/fastcgi; \
             uwsgi_temp_path {0}/uwsgi; scgi_temp_path {0}/scgi; include {0}/site.conf; }}\n",
            directory.display()
        );
        std::fs::write(directory.join("site.conf"), site).unwrap();
        let file = directory.join("nginx.conf");
        std::fs::write(&file, main).unwrap();
        let errors = directory.join("errors");
        let arguments = ["-c", path(&file), "-e", path(&errors)];
        Self::start("nginx", &arguments, port).await
    }

    async fn start(program: &str, arguments: &[&str], port: u16) -> Self {
        // Debian's are where only root looks.
        let found = ["/usr/sbin", "/usr/local/sbin"]
            .map(|directory| Path::new(directory).join(program))
            .into_iter()
            .find(|file| file.exists());
        let found = found.unwrap_or_else(|| program.into());
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let program = Tool::start(path(&found), arguments);
        eventually("the cache", || {
            std::net::TcpStream::connect(address).ok().map(drop)
        })
        .await;
        // Varnish listens before it has read its configuration.
        loop {
            let mut viewer = Viewer::over(TcpStream::connect(address).await.unwrap());
            viewer.ask("GET", "/", &[]).await;
            if viewer
                .try_head()
                .await
                .is_some_and(|head| head.status == 200)
            {
                return Self {
                    address,
                    _program: program,
                };
            }
        }
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn directory(port: u16) -> PathBuf {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("cache-{port}"));
    std::fs::create_dir_all(&directory).unwrap();
    directory
}

/// The port is free again, and nobody is told the same one for a while.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from} is not in the configuration");
    text.replace(from, to)
}
