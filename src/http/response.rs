//! Responses: headers that every one has, ranges, and errors that say what was wrong.

use bytes::Bytes;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Response, StatusCode};

use super::body::ResponseBody;
use super::cors;
use crate::auth::token::Denied;

/// How long an answer may be kept by a browser or a CDN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cache {
    /// It is for one client, or becomes wrong in the next moment.
    Never,
    /// It changes all the time, but a CDN may give it to everybody who asks within so many seconds. Browsers ask anew.
    Shared(u32),
    /// It is what was asked for, for so many seconds at least.
    Kept(u32),
    /// Its name will never mean anything else.
    Immutable,
}

/// An error: status, how long it stays one, and one line of what was wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) cache: Cache,
    pub(super) text: &'static str,
}

impl Refusal {
    /// An error that a cache must not give to others.
    pub(super) const fn new(status: StatusCode, text: &'static str) -> Self {
        let cache = Cache::Never;
        Self {
            status,
            cache,
            text,
        }
    }

    /// An error that everybody who asks within the same second may be told. Not for what is not there *yet*: whoever asked too early
    /// could keep it from those who come in time.
    pub(super) const fn brief(status: StatusCode, text: &'static str) -> Self {
        let cache = Cache::Shared(1);
        Self {
            status,
            cache,
            text,
        }
    }
}

/// Makes responses to one request.
#[derive(Debug)]
pub(super) struct Responder<'a> {
    cors: cors::Answer<'a>,
    head: bool,
    private: bool,
}

impl<'a> Responder<'a> {
    pub(super) fn new(cors: cors::Answer<'a>, head: bool) -> Self {
        Self {
            cors,
            head,
            private: false,
        }
    }

    /// Whether shared caches must not keep the answers, because something else than the address decided on them.
    pub(super) fn set_private(&mut self, private: bool) {
        self.private = private;
    }

    /// 200 with a body of known length.
    pub(super) fn full(
        &self,
        content_type: &'static str,
        cache: Cache,
        body: impl Into<Bytes>,
    ) -> Response<ResponseBody> {
        self.sized(StatusCode::OK, content_type, cache, vec![body.into()])
    }

    /// 200 with a body that is a gzip file.
    pub(super) fn gzip(
        &self,
        content_type: &'static str,
        cache: Cache,
        body: Bytes,
    ) -> Response<ResponseBody> {
        let mut response = self.full(content_type, cache, body);
        response
            .headers_mut()
            .insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        response
    }

    /// 200 with a body whose length is not known: chunked, and passed on as it comes by an nginx that stands in front.
    pub(super) fn stream(
        &self,
        content_type: &'static str,
        cache: Cache,
        body: impl FnOnce() -> ResponseBody,
    ) -> Response<ResponseBody> {
        let mut response = self.response(StatusCode::OK, content_type, cache);
        response.headers_mut().insert(
            HeaderName::from_static("x-accel-buffering"),
            HeaderValue::from_static("no"),
        );
        if !self.head {
            *response.body_mut() = body();
        }
        response
    }

    /// 200, 206 or 416, as the request's Range has it. A Range of several ranges, or one that cannot be read, is ignored, as RFC 9110
    /// (14.2) allows.
    pub(super) fn ranged(
        &self,
        content_type: &'static str,
        cache: Cache,
        pieces: Vec<Bytes>,
        headers: &HeaderMap,
    ) -> Response<ResponseBody> {
        let length: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        let mut response = match headers
            .get(header::RANGE)
            .map(|range| parse_range(range, length))
        {
            None | Some(Range::Ignore) => self.sized(StatusCode::OK, content_type, cache, pieces),
            Some(Range::Unsatisfiable) => {
                let mut response = self.error(
                    StatusCode::RANGE_NOT_SATISFIABLE,
                    "the range lies behind the segment's end",
                );
                insert(
                    &mut response,
                    header::CONTENT_RANGE,
                    &format!("bytes */{length}"),
                );
                return response;
            }
            Some(Range::Bytes { first, last }) => {
                let part = slice(&pieces, first, last);
                let mut response =
                    self.sized(StatusCode::PARTIAL_CONTENT, content_type, cache, part);
                insert(
                    &mut response,
                    header::CONTENT_RANGE,
                    &format!("bytes {first}-{last}/{length}"),
                );
                response
            }
        };
        response
            .headers_mut()
            .insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        response
    }

    /// An error with one line of text, for this client only.
    pub(super) fn error(&self, status: StatusCode, text: &'static str) -> Response<ResponseBody> {
        self.refusal(Refusal::new(status, text))
    }

    /// An error with one line of text; a 503 also has a time to come back.
    pub(super) fn refusal(&self, refusal: Refusal) -> Response<ResponseBody> {
        let mut response = self.sized(
            refusal.status,
            "text/plain; charset=utf-8",
            refusal.cache,
            vec![Bytes::from(format!("{}\n", refusal.text))],
        );
        if refusal.status == StatusCode::SERVICE_UNAVAILABLE {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }

    /// 401 if nothing was shown, 403 if it is not good, 503 if that cannot be found out.
    pub(super) fn denied(&self, denied: &Denied) -> Response<ResponseBody> {
        let status = match denied {
            Denied::Missing => StatusCode::UNAUTHORIZED,
            Denied::HookDown => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::FORBIDDEN,
        };
        let text = vec![Bytes::from(format!("{denied}\n"))];
        let mut response = self.sized(status, "text/plain; charset=utf-8", Cache::Never, text);
        match denied {
            Denied::Missing => insert(&mut response, header::WWW_AUTHENTICATE, "Bearer"),
            Denied::HookDown => insert(&mut response, header::RETRY_AFTER, "1"),
            _ => {}
        }
        response
    }

    /// 503 with a time to come back.
    pub(super) fn retry_later(&self, text: &'static str) -> Response<ResponseBody> {
        self.refusal(Refusal::brief(StatusCode::SERVICE_UNAVAILABLE, text))
    }

    /// 307 to the same with another query.
    pub(super) fn again(&self, location: &str) -> Response<ResponseBody> {
        let mut response = self.error(
            StatusCode::TEMPORARY_REDIRECT,
            "ask again, to show how near you are",
        );
        insert(&mut response, header::LOCATION, location);
        response
    }

    /// 301 to the same at the port of HTTPS.
    pub(super) fn to_https<B>(
        &self,
        request: &Request<B>,
        port: Option<u16>,
    ) -> Response<ResponseBody> {
        let asked = request.headers().get(header::HOST);
        let asked = asked.and_then(|host| host.to_str().ok());
        let asked = asked.or_else(|| {
            request
                .uri()
                .authority()
                .map(|authority| authority.as_str())
        });
        let Some(host) = asked.and_then(host_alone) else {
            return self.error(
                StatusCode::BAD_REQUEST,
                "ask with https://; where that is cannot be said without a Host field",
            );
        };
        let port = port.filter(|&port| port != 443);
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        let target = request.uri().path_and_query();
        let target = target.map_or("/", |target| target.as_str());
        let mut response = self.error(
            StatusCode::MOVED_PERMANENTLY,
            "this is served with https:// only",
        );
        insert(
            &mut response,
            header::LOCATION,
            &format!("https://{host}{port}{target}"),
        );
        response
    }

    /// 405 with what is allowed.
    pub(super) fn not_allowed(&self) -> Response<ResponseBody> {
        let mut response = self.error(
            StatusCode::METHOD_NOT_ALLOWED,
            "only GET, HEAD and OPTIONS are served here",
        );
        response
            .headers_mut()
            .insert(header::ALLOW, HeaderValue::from_static(METHODS));
        response
    }

    /// The answer to OPTIONS, a CORS preflight or not.
    pub(super) fn options(&self) -> Response<ResponseBody> {
        let mut response = self.no_content();
        let headers = response.headers_mut();
        headers.insert(header::ALLOW, HeaderValue::from_static(METHODS));
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static(METHODS),
        );
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            // The asterisk does not stand for this one.
            HeaderValue::from_static("*, Authorization"),
        );
        headers.insert(
            header::ACCESS_CONTROL_MAX_AGE,
            HeaderValue::from_static("86400"),
        );
        response
    }

    /// 204.
    pub(super) fn no_content(&self) -> Response<ResponseBody> {
        let mut response = self.response(StatusCode::NO_CONTENT, "", Cache::Never);
        response.headers_mut().remove(header::CONTENT_TYPE);
        response
    }

    fn sized(
        &self,
        status: StatusCode,
        content_type: &'static str,
        cache: Cache,
        pieces: Vec<Bytes>,
    ) -> Response<ResponseBody> {
        let length: usize = pieces.iter().map(Bytes::len).sum();
        let mut response = self.response(status, content_type, cache);
        response
            .headers_mut()
            .insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        if !self.head {
            *response.body_mut() = ResponseBody::pieces(pieces);
        }
        response
    }

    fn response(
        &self,
        status: StatusCode,
        content_type: &'static str,
        cache: Cache,
    ) -> Response<ResponseBody> {
        let mut response = Response::new(ResponseBody::empty());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(header::CACHE_CONTROL, cache.directives(self.private));
        if let Some(origin) = self.cors.origin {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(
                HeaderName::from_static("timing-allow-origin"),
                origin.clone(),
            );
        }
        headers.insert(
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static("Age, Content-Length, Content-Range, Date, Retry-After"),
        );
        headers.insert(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        );
        if content_type == crate::hls::playlist::CONTENT_TYPE {
            vary(&mut response, "Accept-Encoding");
        }
        if self.cors.varies {
            vary(&mut response, "Origin");
        }
        response
    }
}

impl Cache {
    /// `private`: for the client alone.
    fn directives(self, private: bool) -> HeaderValue {
        let text = match self {
            Self::Never => return HeaderValue::from_static("no-store"),
            Self::Immutable if private => {
                return HeaderValue::from_static("private, max-age=600, immutable");
            }
            Self::Shared(_) if private => return HeaderValue::from_static("private, max-age=0"),
            Self::Kept(seconds) if private => format!("private, max-age={seconds}"),
            // Longer than any ring keeps it; a live segment is of no use after that.
            Self::Immutable => return HeaderValue::from_static("public, max-age=600, immutable"),
            // The last directive keeps caches from giving out what is stale while they fetch anew, as Varnish does for ten seconds.
            Self::Shared(seconds) => {
                format!("max-age=0, s-maxage={seconds}, stale-while-revalidate=0")
            }
            Self::Kept(seconds) => format!("public, max-age={seconds}, stale-while-revalidate=0"),
        };
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("no-store"))
    }
}

/// Says that another value of these fields of the request may have got another answer, beside those that it is said of already.
pub(super) fn vary(response: &mut Response<ResponseBody>, fields: &'static str) {
    let headers = response.headers_mut();
    let fields = match headers.get(header::VARY).map(HeaderValue::to_str) {
        Some(Ok(others)) => HeaderValue::try_from(format!("{others}, {fields}")),
        _ => Ok(HeaderValue::from_static(fields)),
    };
    headers.insert(
        header::VARY,
        fields.unwrap_or(HeaderValue::from_static("*")),
    );
}

/// The host of an authority, if it has the characters of one.
fn host_alone(authority: &str) -> Option<&str> {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    let sane = |byte: u8| byte.is_ascii_alphanumeric() || b".-_[]:".contains(&byte);
    (!host.is_empty() && host.bytes().all(sane)).then_some(host)
}

/// Whether the client takes gzip (RFC 9110, 12.5.3).
pub(super) fn accepts_gzip(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| {
            value.split(',').any(|coding| {
                let (name, quality) = coding.split_once(';').unwrap_or((coding, ""));
                let refused = quality
                    .trim()
                    .strip_prefix("q=")
                    .is_some_and(|q| q.trim().parse() == Ok(0.0));
                (name.trim().eq_ignore_ascii_case("gzip") || name.trim() == "*") && !refused
            })
        })
}

#[derive(Debug, PartialEq, Eq)]
enum Range {
    Bytes { first: u64, last: u64 },
    Unsatisfiable,
    Ignore,
}

/// One byte range of a representation of `length` bytes (RFC 9110, 14.1.2).
fn parse_range(value: &HeaderValue, length: u64) -> Range {
    let parse = || {
        let (first, last) = value
            .to_str()
            .ok()?
            .strip_prefix("bytes=")?
            .trim()
            .split_once('-')?;
        let number = |text: &str| {
            (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
                .then(|| text.parse().unwrap_or(u64::MAX))
        };
        Some(match (first.trim(), last.trim()) {
            ("", suffix) => match number(suffix)? {
                0 => Range::Unsatisfiable,
                count if length > 0 => Range::Bytes {
                    first: length.saturating_sub(count),
                    last: length - 1,
                },
                _ => Range::Unsatisfiable,
            },
            (first, last) => {
                let first = number(first)?;
                let last = if last.is_empty() {
                    u64::MAX
                } else {
                    number(last)?
                };
                if last < first {
                    Range::Ignore
                } else if first >= length {
                    Range::Unsatisfiable
                } else {
                    Range::Bytes {
                        first,
                        last: last.min(length - 1),
                    }
                }
            }
        })
    };
    parse().unwrap_or(Range::Ignore)
}

/// The bytes `first..=last` of consecutive pieces.
fn slice(pieces: &[Bytes], first: u64, last: u64) -> Vec<Bytes> {
    let mut start = 0;
    let mut out = Vec::new();
    for piece in pieces {
        let end = start + piece.len() as u64;
        let (from, to) = (first.max(start), (last + 1).min(end));
        if from < to {
            out.push(piece.slice((from - start) as usize..(to - start) as usize));
        }
        start = end;
    }
    out
}

fn insert(response: &mut Response<ResponseBody>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

const METHODS: &str = "GET, HEAD, OPTIONS";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let range = |text| parse_range(&HeaderValue::from_static(text), 100);
        assert_eq!(range("bytes=0-"), Range::Bytes { first: 0, last: 99 });
        assert_eq!(
            range("bytes=10-19"),
            Range::Bytes {
                first: 10,
                last: 19
            }
        );
        assert_eq!(
            range("bytes=90-500"),
            Range::Bytes {
                first: 90,
                last: 99
            }
        );
        assert_eq!(
            range("bytes=-10"),
            Range::Bytes {
                first: 90,
                last: 99
            }
        );
        assert_eq!(range("bytes=-500"), Range::Bytes { first: 0, last: 99 });
        assert_eq!(range("bytes=100-"), Range::Unsatisfiable);
        assert_eq!(
            range("bytes=99999999999999999999999-"),
            Range::Unsatisfiable
        );
        assert_eq!(range("bytes=-0"), Range::Unsatisfiable);
        for ignored in [
            "bytes=",
            "bytes=-",
            "bytes=a-b",
            "bytes=5-3",
            "bytes=0-1,5-6",
            "items=0-1",
            "bytes=+1-2",
        ] {
            assert_eq!(range(ignored), Range::Ignore, "{ignored}");
        }
    }

    #[test]
    fn a_range_crosses_pieces() {
        let pieces = ["abc", "def", "ghi"].map(|text| Bytes::from_static(text.as_bytes()));
        let joined = |first, last| slice(&pieces, first, last).concat();
        assert_eq!(joined(0, 8), b"abcdefghi");
        assert_eq!(joined(2, 6), b"cdefg");
        assert_eq!(joined(3, 3), b"d");
    }

    #[test]
    fn hosts() {
        assert_eq!(host_alone("example.org:9094"), Some("example.org"));
        assert_eq!(host_alone("example.org"), Some("example.org"));
        assert_eq!(host_alone("[::1]:9094"), Some("[::1]"));
        assert_eq!(host_alone("[::1]"), Some("[::1]"));
        for bad in ["", ":80", "a/b", "a@b", "a b", "a\"b"] {
            assert_eq!(host_alone(bad), None, "{bad}");
        }
    }

    #[test]
    fn accepted_encodings() {
        let accepts = |value: &'static str| {
            accepts_gzip(&HeaderMap::from_iter([(
                header::ACCEPT_ENCODING,
                HeaderValue::from_static(value),
            )]))
        };
        assert!(accepts("gzip, deflate, br"));
        assert!(accepts("br;q=1.0, GZIP;q=0.5"));
        assert!(accepts("*"));
        assert!(!accepts("br, identity"));
        assert!(!accepts("gzip;q=0"));
        assert!(!accepts(""));
    }
}
