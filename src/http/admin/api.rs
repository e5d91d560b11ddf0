//! `/api/v1`: routes and answers. `openapi.json` beside this file describes them, and tests hold the two together.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use tracing::info;

use super::Admin;
use super::access::{Access, is_from_another_site};
use super::model;
use super::query::{Query, decode};
use crate::hls::Now;
use crate::http::body::ResponseBody;
use crate::http::response::{Cache, Responder};
use crate::stream::Stream;
use crate::stream::connections::{Connection, Role};

/// What a path of the API names.
#[derive(Debug, PartialEq, Eq)]
enum Resource {
    Description,
    Server,
    Streams,
    Stream(String),
    Connections,
    Connection(u64),
}

/// A refusal: status, and what was wrong.
type Refusal = (StatusCode, String);

impl Resource {
    fn parse(path: &str) -> Option<Self> {
        match path {
            "openapi.json" => return Some(Self::Description),
            "server" => return Some(Self::Server),
            "streams" => return Some(Self::Streams),
            "connections" => return Some(Self::Connections),
            _ => {}
        }
        if let Some(name) = path.strip_prefix("streams/") {
            return Some(Self::Stream(decode(name)?.into_owned()));
        }
        let id = path.strip_prefix("connections/")?;
        let canonical = |id: &u64| id.to_string() == path["connections/".len()..];
        id.parse().ok().filter(canonical).map(Self::Connection)
    }

    fn methods(&self) -> &'static str {
        match self {
            Self::Stream(_) | Self::Connection(_) => "GET, HEAD, DELETE, OPTIONS",
            _ => "GET, HEAD, OPTIONS",
        }
    }

    /// Whether it tells of persons.
    fn is_personal(&self) -> bool {
        matches!(self, Self::Connections | Self::Connection(_))
    }
}

impl Admin<'_> {
    pub(super) fn api<B>(
        &self,
        path: &str,
        access: Access,
        request: &Request<B>,
        respond: &Responder<'_>,
    ) -> Response<ResponseBody> {
        let Some(resource) = Resource::parse(path) else {
            return error(
                StatusCode::NOT_FOUND,
                "the API has no such path; /api/v1/openapi.json lists them",
                respond,
            );
        };
        let method = request.method();
        let query = request.uri().query().unwrap_or_default();
        let result = match *method {
            Method::OPTIONS => Ok(None),
            Method::GET | Method::HEAD if resource.is_personal() && access != Access::Operate => {
                Err(forbidden("connections are shown to operators only"))
            }
            Method::GET | Method::HEAD => self.read(&resource, query, access).map(Some),
            Method::DELETE if !resource.methods().contains("DELETE") => {
                return not_allowed(&resource, respond);
            }
            Method::DELETE if access != Access::Operate => {
                Err(forbidden("changes are for operators only"))
            }
            Method::DELETE if is_from_another_site(request.headers()) => Err((
                StatusCode::FORBIDDEN,
                "another site's page may not change anything here".to_owned(),
            )),
            Method::DELETE => self.delete(&resource, query).map(|()| None),
            _ => return not_allowed(&resource, respond),
        };
        match result {
            Ok(Some(value)) => respond.full(JSON, Cache::Never, format!("{value}\n")),
            Ok(None) => {
                let mut response = respond.no_content();
                if *method == Method::OPTIONS {
                    response
                        .headers_mut()
                        .insert(header::ALLOW, HeaderValue::from_static(resource.methods()));
                }
                response
            }
            Err((status, text)) => error(status, &text, respond),
        }
    }

    fn read(&self, resource: &Resource, query: &str, access: Access) -> Result<Value, Refusal> {
        let none = || Query::parse(query, &[]).map_err(bad_request);
        match resource {
            Resource::Description => {
                none()?;
                Ok(description().clone())
            }
            Resource::Server => {
                none()?;
                Ok(model::server(self, access == Access::Operate))
            }
            Resource::Streams => self.streams(query),
            Resource::Stream(name) => {
                none()?;
                let stream = self.registry.find(name).ok_or_else(no_stream)?;
                Ok(model::stream(&stream, Instant::now()))
            }
            Resource::Connections => self.connections(query),
            Resource::Connection(id) => {
                none()?;
                Ok(model::connection(&*self.connection(*id)?))
            }
        }
    }

    fn streams(&self, query: &str) -> Result<Value, Refusal> {
        let query = Query::parse(query, &["after", "limit"]).map_err(bad_request)?;
        let limit = query
            .number("limit", 1..=MOST, USUAL)
            .map_err(bad_request)? as usize;
        let after = query.text("after").unwrap_or_default();
        let all = self.registry.list();
        let total = all.len();
        let start = all.partition_point(|stream| stream.name().as_str() <= after);
        let page = &all[start..all.len().min(start + limit)];
        let next =
            (start + page.len() < total).then(|| page.last().map(|last| last.name().as_str()));
        let now = Instant::now();
        let streams: Vec<Value> = page
            .iter()
            .map(|stream| model::stream(stream, now))
            .collect();
        Ok(json!({ "streams": streams, "total": total, "next": next.flatten() }))
    }

    fn connections(&self, query: &str) -> Result<Value, Refusal> {
        let query =
            Query::parse(query, &["after", "limit", "role", "stream"]).map_err(bad_request)?;
        let limit = query
            .number("limit", 1..=MOST, USUAL)
            .map_err(bad_request)? as usize;
        let after = query.number("after", 0..=MOST_ID, 0).map_err(bad_request)?;
        let role = match query.text("role") {
            None => None,
            Some("publisher") => Some(Role::Publisher),
            Some("viewer") => Some(Role::Viewer),
            Some(_) => return Err(bad_request("role must be publisher or viewer".to_owned())),
        };
        let stream = query.text("stream");
        let wanted = |connection: &Connection| {
            role.is_none_or(|role| connection.role() == role) && connection.is_doing(stream)
        };
        // One more than asked for tells whether there are more.
        let mut page = self.registry.connections().list(after, limit + 1, wanted);
        let more = page.len() > limit;
        page.truncate(limit);
        let next = page.last().filter(|_| more).map(|last| last.id());
        let connections: Vec<Value> = page
            .iter()
            .map(|connection| model::connection(connection))
            .collect();
        Ok(json!({ "connections": connections, "next": next }))
    }

    fn delete(&self, resource: &Resource, query: &str) -> Result<(), Refusal> {
        match resource {
            Resource::Stream(name) => {
                let query = Query::parse(query, &["block"]).map_err(bad_request)?;
                let block = query
                    .number("block", 0..=LONGEST_BLOCK, 0)
                    .map_err(bad_request)?;
                let stream = self.registry.find(name).ok_or_else(no_stream)?;
                self.end(&stream, Duration::from_secs(block))
            }
            Resource::Connection(id) => {
                Query::parse(query, &[]).map_err(bad_request)?;
                let connection = self.connection(*id)?;
                info!(connection = id, role = connection.role().as_str(), by = %self.peer, "an operator closes a connection");
                connection.kick();
                self.metrics.kicks.inc();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn end(&self, stream: &Arc<Stream>, block: Duration) -> Result<(), Refusal> {
        let now = Now::read();
        if !block.is_zero() && !self.registry.block(stream.name(), block, now.instant) {
            return Err((
                StatusCode::CONFLICT,
                "too many names are blocked already".to_owned(),
            ));
        }
        if stream.end(now) {
            info!(stream = %stream.name(), by = %self.peer, ?block, "an operator ends a stream");
            self.metrics.kicks.inc();
        }
        Ok(())
    }

    fn connection(&self, id: u64) -> Result<Arc<Connection>, Refusal> {
        let found = self.registry.connections().find(id);
        found
            .filter(|connection| connection.is_doing(None))
            .ok_or_else(|| {
                (
                    StatusCode::NOT_FOUND,
                    "no such connection publishes or plays; the list is at /api/v1/connections"
                        .to_owned(),
                )
            })
    }
}

/// An error in JSON.
pub(super) fn error(
    status: StatusCode,
    text: &str,
    respond: &Responder<'_>,
) -> Response<ResponseBody> {
    let mut response = respond.full(
        JSON,
        Cache::Never,
        format!("{}\n", json!({ "error": text })),
    );
    *response.status_mut() = status;
    response
}

fn not_allowed(resource: &Resource, respond: &Responder<'_>) -> Response<ResponseBody> {
    let text = format!("this takes {}", resource.methods());
    let mut response = error(StatusCode::METHOD_NOT_ALLOWED, &text, respond);
    response
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static(resource.methods()));
    response
}

fn bad_request(text: String) -> Refusal {
    (StatusCode::BAD_REQUEST, text)
}

fn forbidden(what: &str) -> Refusal {
    let text = format!(
        "{what}: set --admin-token and send it, or set --admin-listen 127.0.0.1:PORT and come from this machine"
    );
    (StatusCode::FORBIDDEN, text)
}

fn no_stream() -> Refusal {
    (
        StatusCode::NOT_FOUND,
        "no such stream; the list is at /api/v1/streams".to_owned(),
    )
}

/// The description, with this server's version.
fn description() -> &'static Value {
    static DESCRIPTION: std::sync::OnceLock<Value> = std::sync::OnceLock::new();
    DESCRIPTION.get_or_init(|| {
        let parsed: Result<BTreeMap<String, Value>, _> =
            serde_json::from_str(include_str!("openapi.json"));
        let mut description = parsed.unwrap_or_default();
        if let Some(info) = description.get_mut("info") {
            info["version"] = env!("CARGO_PKG_VERSION").into();
        }
        json!(description)
    })
}

const JSON: &str = "application/json";
/// Entries of a page, when nothing is said; a stream is some 4 kB.
const USUAL: u64 = 100;
/// Entries of a page at the most.
const MOST: u64 = 1000;
/// Identifiers are whole numbers that JavaScript can hold.
const MOST_ID: u64 = (1 << 53) - 1;
/// Seconds that a name can be kept free.
const LONGEST_BLOCK: u64 = 86_400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let stream = |name: &str| Some(Resource::Stream(name.to_owned()));
        assert_eq!(Resource::parse("streams/live/a"), stream("live/a"));
        assert_eq!(Resource::parse("streams/live%2Fa"), stream("live/a"));
        assert_eq!(Resource::parse("streams/%"), None);
        assert_eq!(
            Resource::parse("connections/17"),
            Some(Resource::Connection(17))
        );
        for path in [
            "connections/",
            "connections/x",
            "connections/+1",
            "connections/01",
            "connections/-1",
            "",
            "stream",
            "servers",
        ] {
            assert_eq!(Resource::parse(path), None, "{path}");
        }
    }

    #[test]
    fn the_description_is_one() {
        assert_eq!(description()["openapi"], "3.1.0");
        assert_eq!(description()["info"]["version"], env!("CARGO_PKG_VERSION"));
    }
}
