//! Certificates made for a test, a server that shows them, and connections to it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use lhls::dial::{Dialed, Dialer, Trust};
use rcgen::{CertificateParams, KeyPair};

use super::server::TestServer;
use super::within;

/// Certificate and key in files of the test's own.
pub(crate) struct Pem {
    directory: PathBuf,
}

impl Pem {
    /// In a folder named after the test.
    pub(crate) fn new(test: &str) -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("tls-{test}"));
        std::fs::create_dir_all(&directory).unwrap();
        let pem = Self { directory };
        pem.renew();
        pem
    }

    pub(crate) fn certificate(&self) -> PathBuf {
        self.directory.join("fullchain.pem")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.directory.join("privkey.pem")
    }

    /// Writes another certificate, which is its own root, and its key.
    pub(crate) fn renew(&self) {
        self.write(&parameters());
    }

    /// The same, but it has expired long ago.
    pub(crate) fn renew_expired(&self) {
        let mut parameters = parameters();
        parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(2020, 4, 1);
        self.write(&parameters);
    }

    fn write(&self, parameters: &CertificateParams) {
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        std::fs::write(self.key(), key.serialize_pem()).unwrap();
        std::fs::write(self.certificate(), certificate.pem()).unwrap();
    }

    /// A client that believes the certificate that the file holds now.
    pub(crate) fn dialer(&self, protocols: &'static [&'static [u8]]) -> Dialer {
        Dialer::new(Trust::File(self.certificate()), protocols)
    }

    /// Options that make a server with all four ports.
    pub(crate) fn options(&self) -> Vec<String> {
        [
            "--https-listen",
            "127.0.0.1:0",
            "--rtmps-listen",
            "127.0.0.1:0",
            "--tls-cert",
            self.certificate().to_str().unwrap(),
            "--tls-key",
            self.key().to_str().unwrap(),
        ]
        .map(str::to_owned)
        .into()
    }

    /// A server with all four ports.
    pub(crate) fn server(&self, more: &[&str]) -> TestServer {
        let options = self.options();
        let options: Vec<&str> = options
            .iter()
            .map(String::as_str)
            .chain(more.iter().copied())
            .collect();
        TestServer::with(&options)
    }
}

fn parameters() -> CertificateParams {
    CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap()
}

/// A connection with TLS that believes anybody.
pub(crate) async fn connect(
    server: SocketAddr,
    protocols: &'static [&'static [u8]],
) -> Result<Dialed, lhls::dial::Error> {
    let dialer = Dialer::new(Trust::Anybody, protocols);
    within(
        "a TLS handshake",
        dialer.dial("127.0.0.1", server.port(), true),
    )
    .await
}

/// An HTTP/2 client.
pub(crate) struct Http2 {
    sender: SendRequest<Empty<Bytes>>,
    /// How the connection ended, once it has.
    pub(crate) ended: tokio::task::JoinHandle<hyper::Result<()>>,
}

impl Http2 {
    pub(crate) async fn connect(server: SocketAddr) -> Self {
        let dialed = connect(server, &[b"h2"]).await.unwrap();
        assert!(dialed.http2, "the server agrees to HTTP/2");
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .handshake(TokioIo::new(dialed.wire))
            .await
            .unwrap();
        Self {
            sender,
            ended: tokio::spawn(connection),
        }
    }

    pub(crate) async fn ask(
        &self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> hyper::Result<Response<Incoming>> {
        let mut request = Request::get(format!("https://localhost{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut sender = self.sender.clone();
        let request = request.body(Empty::new()).unwrap();
        within("an answer", sender.send_request(request)).await
    }

    /// The body of the answer, and its status.
    pub(crate) async fn get(&self, path: &str) -> (u16, Bytes) {
        let answer = self.ask(path, &[]).await.unwrap();
        let status = answer.status().as_u16();
        let body = within("a body", answer.into_body().collect()).await;
        (status, body.unwrap().to_bytes())
    }
}

/// The next bytes of a body; `None` at its end.
pub(crate) async fn next(body: &mut Incoming) -> Option<hyper::Result<Bytes>> {
    let frame = within("more of a body", body.frame()).await?;
    Some(frame.map(|frame| frame.into_data().unwrap_or_default()))
}
