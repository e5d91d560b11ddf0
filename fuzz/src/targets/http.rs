//! The request path of the HTTP side: any path, query and headers get an answer that is true to itself, and never a 500.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Buf;
use http_body::Body;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, Uri};
use lhls::auth::{Access, Rules};
use lhls::hooks::{self, Hooks};
use lhls::http::body::ResponseBody;
use lhls::http::cors::Cors;
use lhls::http::{Connection, Service, Settings};
use lhls::live::Live;
use lhls::metrics::Metrics;
use lhls::proxy::TrustedProxies;
use lhls::stream::registry::Registry;

use super::ingest;

const PEER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1024));

/// Pages, playlists and the metrics text are made anew for each request.
pub fn memory_bound(length: usize) -> usize {
    64 * length + (4 << 20)
}

/// A request as text: method, target, and a header a line. `$` in the target stands for the session's identifier, `#` for the number of
/// its growing segment.
pub fn run(data: &[u8]) {
    thread_local!(static SERVER: RefCell<Server> = RefCell::new(Server::start()));
    SERVER.with_borrow_mut(|server| server.ask(data));
}

struct Server {
    runtime: tokio::runtime::Runtime,
    service: Service,
    connection: Connection,
    id: String,
    growing: u64,
}

impl Server {
    /// With one stream that is live and one that has ended.
    fn start() -> Self {
        let registry = Arc::new(super::publisher::registry());
        ingest::publish_some_seconds(&registry, "ended", true);
        ingest::publish_some_seconds(&registry, "stream", false);
        let stream = registry.find("live/stream").expect("published");
        let session = stream.output().sessions().pop().expect("live");
        let growing = (0..).map(|at| {
            lhls::hls::session::first_sequence(super::publisher::moment(Duration::ZERO).wall) + at
        });
        let growing = growing
            .take(1000)
            .find(|&number| {
                let segment = session.segment(number);
                segment.is_some_and(|segment| segment.ended().is_none())
            })
            .expect("a segment that grows");
        Self::new(registry, session.id().to_owned(), growing)
    }

    fn new(registry: Arc<Registry>, id: String, growing: u64) -> Self {
        let settings = Settings {
            cors: Cors::new(&["*".to_owned()]).expect("an origin"),
            max_connections: 10,
            admin: lhls::http::admin::Settings::default(),
            trusted: TrustedProxies::default(),
            https_redirect: None,
        };
        let metrics = Arc::new(Metrics::new());
        let (hooks, _) = Hooks::new(hooks::Settings::default(), Arc::clone(&metrics));
        let service = Service::new(
            registry,
            Arc::new(Access::new(Rules::default()).expect("random numbers")),
            hooks,
            metrics,
            Arc::new(Live::new(settings)),
        );
        // With its time standing still until there is nothing else to do, every wait is over at once.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build();
        Self {
            runtime: runtime.expect("a runtime"),
            connection: service.connect(PEER, false),
            service,
            id,
            growing,
        }
    }

    fn ask(&mut self, data: &[u8]) {
        let Ok(text) = std::str::from_utf8(data) else {
            return;
        };
        let mut lines = text.split('\n');
        let (method, target) = lines
            .next()
            .unwrap_or_default()
            .split_once(' ')
            .unwrap_or_default();
        let target = target
            .replace('$', &self.id)
            .replace('#', &self.growing.to_string());
        let (Ok(method), Ok(uri)) = (Method::from_bytes(method.as_bytes()), Uri::try_from(target))
        else {
            return;
        };
        let mut request = Request::new(());
        for line in lines.take(100) {
            let (name, value) = line.split_once(": ").unwrap_or((line, ""));
            if let (Ok(name), Ok(value)) =
                (name.parse::<HeaderName>(), HeaderValue::from_str(value))
            {
                request.headers_mut().append(name, value);
            }
        }
        let head = method == Method::HEAD;
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        let response = self.service.answer(&self.connection, &request);
        let response = self.runtime.block_on(response);
        check(response, head);
    }
}

fn check(response: Response<ResponseBody>, head: bool) {
    let status = response.status().as_u16();
    assert!(
        matches!(
            status,
            200 | 204 | 206 | 304 | 307 | 308 | 400 | 404 | 405 | 414 | 416 | 503
        ),
        "{status}"
    );
    let headers = response.headers().clone();
    let field = |name| {
        headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    let (length, whole) = body_length(response.into_body());
    let announced: Option<u64> =
        field(header::CONTENT_LENGTH).map(|text| text.parse().expect("a number"));
    match announced {
        Some(_) if head => assert_eq!(length, 0),
        Some(announced) => assert!(
            whole && length == announced,
            "{length} bytes, {announced} announced"
        ),
        None => {}
    }
    if status == 206 {
        let range = field(header::CONTENT_RANGE).and_then(|range| range.strip_prefix("bytes "));
        let (range, total) = range
            .and_then(|range| range.split_once('/'))
            .expect("a range");
        let (first, last) = range.split_once('-').expect("a range");
        let number = |text: &str| text.parse::<u64>().expect("a number");
        assert!(number(first) <= number(last) && number(last) < number(total));
        assert_eq!(announced, Some(number(last) - number(first) + 1));
    }
}

/// Bytes that are there, and whether that is all.
fn body_length(mut body: ResponseBody) -> (u64, bool) {
    let mut context = Context::from_waker(Waker::noop());
    let mut length = 0;
    loop {
        match Pin::new(&mut body).poll_frame(&mut context) {
            Poll::Ready(Some(Ok(frame))) => {
                let mut data = frame.into_data().expect("no trailers");
                length += data.remaining() as u64;
                data.advance(data.remaining());
            }
            Poll::Ready(Some(Err(_)) | None) => return (length, true),
            Poll::Pending => return (length, false),
        }
    }
}
