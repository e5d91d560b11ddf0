//! The player page of a stream, and the files it needs.
//!
//! Everything is in the binary, hls.js (with its licence) included: it works without any other server. A page is served for every
//! name that could be a stream's, live or not, since the page itself waits for a stream to begin. The files are fetched by a path
//! that carries a version, so that a browser keeps them until the server is another. What the page does is in `src/web/`.

use std::io::Write as _;
use std::sync::OnceLock;

use bytes::Bytes;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};

use super::body::ResponseBody;
use super::response::{Cache, Responder, accepts_gzip, vary};

/// The page that plays the stream `name`, asked for with or without a slash at the end of the path.
pub(super) fn page(
    name: &str,
    slash: bool,
    headers: &HeaderMap,
    respond: &Responder<'_>,
) -> Response<ResponseBody> {
    // Relative paths only, so that the server can stand behind a proxy under any prefix.
    let depth = name.matches('/').count() + usize::from(slash);
    let base = if slash {
        ""
    } else {
        name.rsplit('/').next().unwrap_or_default()
    };
    // Names are letters, digits and `-_.~/`: nothing to escape.
    let html = fill(PLAYER, depth)
        .replace("{name}", name)
        .replace("{base}", base);
    html_page(html, headers, respond)
}

/// A page of the server's own, with `{list}` filled in. It is served at `/`, and leads operators on if their pages are here.
pub(super) fn index(
    list: &str,
    operators: bool,
    headers: &HeaderMap,
    respond: &Responder<'_>,
) -> Response<ResponseBody> {
    let operators = if operators { FOR_OPERATORS } else { "" };
    let html = fill(include_str!("../web/index.html"), 0)
        .replace("{list}", list)
        .replace("{operators}", operators);
    html_page(html, headers, respond)
}

/// The status page.
pub(super) fn status(headers: &HeaderMap, respond: &Responder<'_>) -> Response<ResponseBody> {
    html_page(fill(STATUS, 0), headers, respond)
}

/// A file of the page, or its gzip form.
pub(super) fn asset(
    file: &str,
    query: &str,
    headers: &HeaderMap,
    respond: &Responder<'_>,
) -> Response<ResponseBody> {
    let Some(asset) = assets().iter().find(|asset| asset.name == file) else {
        return respond.error(StatusCode::NOT_FOUND, "the player page has no such file");
    };
    let cache = if query.strip_prefix("v=") == Some(version()) {
        Cache::Immutable
    } else {
        Cache::Never
    };
    let mut response = if accepts_gzip(headers) {
        let gzip = asset.gzip.get_or_init(|| compress(asset.body));
        respond.gzip(asset.content_type, cache, gzip.clone())
    } else {
        respond.full(asset.content_type, cache, Bytes::from_static(asset.body))
    };
    vary(&mut response, "Accept-Encoding");
    response
}

/// Whether the page has such a file.
pub(super) fn is_asset(file: &str) -> bool {
    assets().iter().any(|asset| asset.name == file)
}

#[derive(Debug)]
struct Asset {
    name: &'static str,
    content_type: &'static str,
    body: &'static [u8],
    gzip: OnceLock<Bytes>,
}

impl Asset {
    const fn new(name: &'static str, content_type: &'static str, body: &'static [u8]) -> Self {
        Self {
            name,
            content_type,
            body,
            gzip: OnceLock::new(),
        }
    }
}

fn assets() -> &'static [Asset] {
    static ASSETS: [Asset; 10] = [
        Asset::new("style.css", CSS, include_bytes!("../web/style.css")),
        Asset::new("index.js", JS, include_bytes!("../web/index.js")),
        Asset::new("status.js", JS, include_bytes!("../web/status.js")),
        Asset::new("player.js", JS, include_bytes!("../web/player.js")),
        Asset::new("engine.js", JS, include_bytes!("../web/engine.js")),
        Asset::new("pilot.js", JS, include_bytes!("../web/pilot.js")),
        Asset::new("cells.js", JS, include_bytes!("../web/cells.js")),
        Asset::new("graph.js", JS, include_bytes!("../web/graph.js")),
        Asset::new(
            "hls.light.min.js",
            JS,
            include_bytes!("../web/vendor/hls.light.min.js"),
        ),
        Asset::new(
            "hls.js.LICENSE",
            TEXT,
            include_bytes!("../web/vendor/hls.js.LICENSE"),
        ),
    ];
    &ASSETS
}

/// Changes whenever one of the files does.
fn version() -> &'static str {
    static VERSION: OnceLock<String> = OnceLock::new();
    VERSION.get_or_init(|| {
        let mut crc = flate2::Crc::new();
        for asset in assets() {
            crc.update(asset.body);
        }
        format!("{:08x}", crc.sum())
    })
}

fn fill(page: &str, depth: usize) -> String {
    page.replace("{root}", &"../".repeat(depth))
        .replace("{version}", version())
}

fn html_page(html: String, headers: &HeaderMap, respond: &Responder<'_>) -> Response<ResponseBody> {
    let mut response = if accepts_gzip(headers) {
        respond.gzip(HTML, Cache::Never, compress(html.as_bytes()))
    } else {
        respond.full(HTML, Cache::Never, html)
    };
    vary(&mut response, "Accept-Encoding");
    response.headers_mut().insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(POLICY),
    );
    response
}

fn compress(body: &[u8]) -> Bytes {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    // Writing into a vector cannot fail.
    let _ = encoder.write_all(body);
    Bytes::from(encoder.finish().unwrap_or_default())
}

const PLAYER: &str = include_str!("../web/player.html");
const STATUS: &str = include_str!("../web/status.html");
const FOR_OPERATORS: &str =
    r#" For operators: <a href="status">status</a>, <a href="metrics">metrics</a>."#;
const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
/// The page's own files only; hls.js makes its worker and its media source out of blobs.
const POLICY: &str = "default-src 'self'; media-src 'self' blob:; worker-src 'self' blob:; script-src 'self' blob:; \
    img-src 'self' data:; object-src 'none'; base-uri 'none'";

#[cfg(test)]
mod tests {
    use super::*;

    fn respond<T>(with: impl FnOnce(&Responder<'_>) -> T) -> T {
        let any = HeaderValue::from_static("*");
        let cors = crate::http::cors::Answer {
            origin: Some(&any),
            varies: false,
        };
        with(&Responder::new(cors, false))
    }

    fn gzip() -> HeaderMap {
        HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"))])
    }

    #[test]
    fn pages_ask_only_for_files_that_are_there() {
        for page in [PLAYER, STATUS, include_str!("../web/index.html")] {
            let mut files = page.split("{root}web/").skip(1);
            assert!(files.clone().count() > 0);
            assert!(files.all(|rest| {
                let file = rest.split(['?', '"']).next().unwrap_or_default();
                is_asset(file)
            }));
            assert!(!page.contains("https://"), "nothing from elsewhere");
        }
    }

    #[test]
    fn page_leads_back_to_the_root() {
        assert!(fill("{root}web/x", 2).starts_with("../../web/x"));
        for slash in [true, false] {
            let response = respond(|respond| page("live/a", slash, &HeaderMap::new(), respond));
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(response.headers()[header::CONTENT_TYPE], HTML);
        }
    }

    #[test]
    fn assets_are_kept_only_under_their_version() {
        let get = |query| respond(|respond| asset("player.js", query, &gzip(), respond));
        let version = format!("v={}", version());
        let kept = get(version.as_str());
        assert!(
            kept.headers()[header::CACHE_CONTROL]
                .to_str()
                .unwrap()
                .contains("immutable")
        );
        assert_eq!(kept.headers()[header::CONTENT_ENCODING], "gzip");
        assert_eq!(kept.headers()[header::VARY], "Accept-Encoding");
        for query in ["", "v=0", "v"] {
            assert_eq!(get(query).headers()[header::CACHE_CONTROL], "no-store");
        }
        let missing = respond(|respond| asset("../Cargo.toml", "", &gzip(), respond));
        assert_eq!(missing.status(), StatusCode::NOT_FOUND);
    }

    #[test]
    fn vendored_player_has_its_licence() {
        let licence = include_str!("../web/vendor/hls.js.LICENSE");
        assert!(licence.contains("Apache License"));
    }
}
