//! The program itself, told by SIGHUP to read its configuration and its certificate again while it is published to and watched. A short
//! version of `scripts/reloads`.

use std::net::SocketAddr;
use std::time::Duration;

use lhls::viewer::Mode;

use crate::common::audience::{Audience, Source};
use crate::common::program::Program;
use crate::common::tls::{Http2, Pem};
use crate::common::{viewer as http1, within};
use crate::config_file::Toml;

const KEY: &str = "kprfd3tk4kfhk27yr0whc4";
const TIMES: usize = 12;

#[tokio::test(flavor = "multi_thread")]
async fn nobody_notices() {
    let pem = Pem::new("reloads");
    let text = |round: usize| {
        format!(
            "cors-origin = \"https://page-{round}.example\"\nretain = \"{}s\"\n[keys]\n\"live/*\" = [\"{KEY}\", \"other-{KEY}-{round}\"]\n",
            20 + round
        )
    };
    let file = Toml::new(&text(0));
    let mut options = pem.options();
    options.extend(["--config".to_owned(), file.path().to_owned()]);
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let program = Program::start(&options).await;
    let rtmps = port(&program, "rtmps://").await;
    let https = port(&program, "https://").await;

    let publishing = [
        format!("rtmp://{}/live/plain?key={KEY}", program.rtmp),
        format!("rtmps://{rtmps}/live/secure?key={KEY}"),
    ]
    .map(|url| Source::start(&url));
    let (plain, secure) = (
        format!("http://{}", program.http),
        format!("https://{https}"),
    );
    let watching = [
        (&plain, "secure/playlist.m3u8", Mode::Segments),
        (&plain, "plain/ll.m3u8", Mode::Parts),
        (&secure, "plain/playlist.m3u8", Mode::Segments),
        (&secure, "secure/ll.m3u8", Mode::Parts),
    ]
    .map(|(server, path, mode)| Audience::watch(&format!("{server}/live/{path}"), mode, 2));
    within("eight viewers", async {
        while metric(&program, "lhls_viewers").await < 8 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let handshakes = metric(&program, "lhls_tls_handshakes_total").await;

    for round in 1..=TIMES {
        pem.renew();
        file.write(&text(round));
        program.signal("HUP").await;
        // The certificate is exchanged before the configuration.
        within("the new configuration", async {
            let origin = format!("https://page-{round}.example");
            while allowed(&program).await != origin {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        let dialer = pem.dialer(&[b"h2"]);
        let dialed = dialer.dial("127.0.0.1", https.port(), true);
        within("a handshake", dialed)
            .await
            .expect("the new certificate");
        // The streams go on meanwhile.
        let pieces = metric(&program, "lhls_pieces_total").await;
        within("more pictures", async {
            while metric(&program, "lhls_pieces_total").await < pieces + 10 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }

    let made_anew = metric(&program, "lhls_tls_handshakes_total").await - handshakes;
    assert_eq!(made_anew, TIMES as u64, "nobody had to connect again");
    assert_eq!(metric(&program, "lhls_publishes_total").await, 2);
    assert_eq!(metric(&program, "lhls_panics_total").await, 0);
    // Who asks over a new connection is served as well.
    let (status, _) = Http2::connect(https).await.get("/healthz").await;
    assert_eq!(status, 200);
    for watching in watching {
        watching.finish().await;
    }
    for publishing in publishing {
        publishing.finish().await;
    }
    assert!(!program.log().contains(KEY));
}

async fn port(program: &Program, scheme: &str) -> SocketAddr {
    let line = program.wait_for_log(scheme).await;
    let (_, rest) = line.split_once(scheme).unwrap();
    rest.split('/').next().unwrap().parse().unwrap()
}

async fn allowed(program: &Program) -> String {
    let answer = http1::get(program.http, "/healthz").await;
    let origin = answer.header("access-control-allow-origin");
    origin.unwrap_or_default().to_owned()
}

async fn metric(program: &Program, name: &str) -> u64 {
    let text = http1::get(program.http, "/metrics").await.text();
    let mut values = text
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    values.next().expect("such a metric").parse().unwrap()
}
