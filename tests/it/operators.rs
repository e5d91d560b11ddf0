//! What operators see and do: who gets in, whether the API is what its description says, and what happens to those who are sent away.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::common::eventually;
use crate::common::media::Clip;
use crate::common::playlist;
use crate::common::publisher::Publisher;
use crate::common::server::TestServer;
use crate::common::viewer::{Response, Viewer, get, request};

const TOKEN: &str = "0123456789abcdef";
const BEARER: &str = "Authorization: Bearer 0123456789abcdef";
/// What makes a caller from this machine an operator.
const OWN_PORT: &[&str] = &["--admin-listen", "127.0.0.1:0"];
const LOCAL: &str = "Host: 127.0.0.1";

async fn publishing(server: &TestServer, name: &str) -> Publisher {
    let mut publisher = Publisher::start(server, name, &Clip::default()).await;
    publisher.send_until(2600).await;
    publisher
}

/// The test client sends `Host: test`, which nobody on this machine would.
async fn as_operator(admin: SocketAddr, method: &str, path: &str) -> Response {
    let stream = tokio::net::TcpStream::connect(admin).await.unwrap();
    let mut viewer = Viewer::over(stream);
    viewer.ask_as(LOCAL, method, path, &[]).await;
    viewer.response().await
}

fn json_of(response: &Response) -> Value {
    assert_eq!(response.header("content-type"), Some("application/json"));
    serde_json::from_slice(&response.bytes()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_readers_read_and_change_nothing() {
    let server = TestServer::start();
    let publisher = publishing(&server, "live/a").await;
    for path in [
        "/metrics",
        "/status",
        "/api/v1/server",
        "/api/v1/streams",
        "/api/v1/streams/live/a",
        "/api/v1/openapi.json",
    ] {
        let answer = request(server.http, "GET", path, &[]).await;
        assert_eq!(answer.status(), 200, "{path}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), None, "{path}");
    }
    // A reverse proxy on this machine would make everybody come from here.
    for (method, path) in [
        ("GET", "/api/v1/connections"),
        ("DELETE", "/api/v1/streams/live/a"),
        ("DELETE", "/api/v1/connections/1"),
    ] {
        let answer = as_operator(server.http, method, path).await;
        assert_eq!(answer.status(), 403, "{method} {path}");
        assert!(answer.text().contains("--admin-token"));
    }
    assert_eq!(
        json_of(&get(server.http, "/api/v1/streams/live/a").await)["state"],
        "live"
    );
    publisher.finish().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_token_nobody_else_gets_in() {
    let server = TestServer::with(&["--admin-token", TOKEN]);
    let publisher = publishing(&server, "live/a").await;
    let paths = [
        "/metrics",
        "/status",
        "/api/v1/server",
        "/api/v1/streams",
        "/api/v1/connections",
        "/api/v1/openapi.json",
        "/api/v1/nothing",
    ];
    for path in paths {
        for headers in [
            &[][..],
            &["Authorization: Bearer wrong"],
            &["Authorization: Basic eDp3cm9uZw=="],
        ] {
            for method in ["GET", "HEAD", "DELETE", "OPTIONS", "POST"] {
                let answer = request(server.http, method, path, headers).await;
                assert_eq!(answer.status(), 401, "{method} {path}");
                assert!(answer.header("www-authenticate").is_some());
            }
        }
    }
    // The token as a browser sends it, and as programmes do.
    for header in [
        BEARER,
        "Authorization: Basic b3BlcmF0b3I6MDEyMzQ1Njc4OWFiY2RlZg==",
    ] {
        for path in &paths[..6] {
            assert_eq!(
                request(server.http, "GET", path, &[header]).await.status(),
                200,
                "{path}"
            );
        }
    }
    // What is not for operators is as it was.
    for path in [
        "/healthz",
        "/readyz",
        "/api/streams",
        "/api/time",
        "/live/a/playlist.m3u8",
        "/",
    ] {
        assert_eq!(get(server.http, path).await.status(), 200, "{path}");
    }
    let refused = server
        .metrics
        .limits
        .get_or_create(&lhls::metrics::Reason {
            reason: "admin_token",
        })
        .get();
    assert_eq!(refused as usize, paths.len() * 2 * 5);
    publisher.finish().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_of_their_own_is_for_operators_only() {
    let server = TestServer::with(OWN_PORT);
    let admin = server.admin.unwrap();
    for path in [
        "/metrics",
        "/status",
        "/api/v1/server",
        "/api/v1/connections",
        "/",
    ] {
        assert_eq!(
            as_operator(admin, "GET", path).await.status(),
            200,
            "{path}"
        );
    }
    for path in [
        "/metrics",
        "/status",
        "/api/v1/server",
        "/api/v1/connections",
    ] {
        assert_eq!(get(server.http, path).await.status(), 404, "{path}");
    }
    for path in ["/api/streams", "/live/a/", "/live/a/playlist.m3u8"] {
        assert_eq!(get(admin, path).await.status(), 404, "{path}");
    }
    for port in [admin, server.http] {
        assert_eq!(get(port, "/healthz").await.status(), 200);
        assert_eq!(get(port, "/readyz").await.text(), "ready\n");
    }
    // Another name for this machine, a detour, or another site's page: no operator.
    assert_eq!(get(admin, "/api/v1/connections").await.status(), 403);
    for header in ["X-Forwarded-For: 192.0.2.1", "Via: 1.1 proxy"] {
        let mut viewer = Viewer::connect(admin).await;
        viewer
            .ask_as(LOCAL, "GET", "/api/v1/connections", &[header])
            .await;
        assert_eq!(viewer.response().await.status(), 403, "{header}");
    }
    let mut viewer = Viewer::connect(admin).await;
    viewer
        .ask_as(
            LOCAL,
            "DELETE",
            "/api/v1/connections/1",
            &["Origin: https://evil.example"],
        )
        .await;
    assert!(viewer.response().await.text().contains("another site"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_says_what_its_description_promises() {
    let server = TestServer::with(OWN_PORT);
    let admin = server.admin.unwrap();
    let description = json_of(&as_operator(admin, "GET", "/api/v1/openapi.json").await);
    // A stream with a past, one that waits for its encoder, and a viewer.
    let first = publishing(&server, "live/a").await;
    let publisher = publishing(&server, "live/a").await;
    drop(first);
    let media = playlist::media_path(&server, "live/a").await;
    let mut viewer = Viewer::connect(server.http).await;
    viewer
        .ask("GET", &media, &["User-Agent: a \"player\""])
        .await;
    viewer.response().await;

    for (path, operations) in description["paths"].as_object().unwrap() {
        let asked = path.replace("{name}", "live%2Fa").replace("{id}", "1");
        let id = json_of(&as_operator(admin, "GET", "/api/v1/connections").await)["connections"][0]
            ["id"]
            .to_string();
        let asked = asked.replace("connections/1", &format!("connections/{id}"));
        check(
            &description,
            &operations["get"],
            &as_operator(admin, "GET", &format!("/api/v1{asked}")).await,
        );
        let wrong = as_operator(admin, "GET", &format!("/api/v1{asked}?wrong=1")).await;
        assert_eq!(wrong.status(), 400, "{path}");
        check(&description, &operations["get"], &wrong);
        check(
            &description,
            &operations["get"],
            &get(admin, &format!("/api/v1{asked}")).await,
        );
        let post = as_operator(admin, "POST", &format!("/api/v1{asked}")).await;
        assert_eq!(post.status(), 405, "{path}");
        assert_eq!(
            post.header("allow").unwrap().contains("DELETE"),
            operations.get("delete").is_some()
        );
    }
    for path in ["/streams/live/none", "/connections/999999"] {
        let operations = match path.contains("streams") {
            true => &description["paths"]["/streams/{name}"],
            false => &description["paths"]["/connections/{id}"],
        };
        for (method, key) in [("GET", "get"), ("DELETE", "delete")] {
            let answer = as_operator(admin, method, &format!("/api/v1{path}")).await;
            assert_eq!(answer.status(), 404, "{method} {path}");
            check(&description, &operations[key], &answer);
        }
    }
    let stream = json_of(&as_operator(admin, "GET", "/api/v1/streams/live/a").await);
    assert_eq!(stream["viewers"], 1);
    assert_eq!(stream["video"]["width"], 320);
    assert_eq!(stream["gop"]["pictures"], 30);
    assert_eq!(stream["runs"][0]["entrance"], "takeover");
    assert_eq!(stream["runs"][1]["reason"], "replaced");
    let connections = json_of(&as_operator(admin, "GET", "/api/v1/connections?role=viewer").await);
    assert_eq!(connections["connections"][0]["agent"], "a \"player\"");
    publisher.finish().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_is_kicked_may_come_back() {
    let options = [OWN_PORT, &["--reconnect-window", "60s"]].concat();
    let server = TestServer::with(&options);
    let admin = server.admin.unwrap();
    let publisher = publishing(&server, "live/a").await;
    let stream = json_of(&as_operator(admin, "GET", "/api/v1/streams/live/a").await);
    let path = format!("/api/v1/connections/{}", stream["publisher"]["connection"]);
    assert_eq!(as_operator(admin, "DELETE", &path).await.status(), 204);
    eventually("the publisher's end", || {
        (server.metrics.publishers.get() == 0).then_some(())
    })
    .await;
    let stream = json_of(&as_operator(admin, "GET", "/api/v1/streams/live/a").await);
    assert_eq!(stream["state"], "waiting");
    assert_eq!(stream["runs"][0]["reason"], "kicked");
    drop(publisher);
    let pieces = server.metrics.pieces.get();
    let mut back = Publisher::start(&server, "live/a", &Clip::default()).await;
    back.send_until(100).await;
    // What the first run has sent is not counted again.
    assert!(server.metrics.pieces.get() - pieces < 10);
    assert_eq!(server.metrics.reconnects.get(), 1);
    back.finish().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_that_is_kicked_is_gone_even_while_it_waits() {
    let server = TestServer::with(OWN_PORT);
    let admin = server.admin.unwrap();
    let publisher = publishing(&server, "live/a").await;
    let media = playlist::media_path(&server, "live/a").await;
    let announced = playlist::fetch(&server, &media)
        .await
        .entries
        .pop()
        .unwrap();
    let mut viewer = Viewer::connect(server.http).await;
    viewer
        .ask("GET", &playlist::sibling(&media, &announced.uri), &[])
        .await;
    assert_eq!(viewer.head().await.status, 200);
    let list = json_of(
        &as_operator(
            admin,
            "GET",
            "/api/v1/connections?role=viewer&stream=live%2Fa",
        )
        .await,
    );
    let path = format!("/api/v1/connections/{}", list["connections"][0]["id"]);
    assert_eq!(as_operator(admin, "DELETE", &path).await.status(), 204);
    viewer.expect_close().await;
    eventually("the viewer's end", || {
        (server.registry.find("live/a")?.viewers() == 0).then_some(())
    })
    .await;
    assert_eq!(as_operator(admin, "DELETE", &path).await.status(), 404);
    publisher.finish().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_ended_stays_away_for_as_long_as_wanted() {
    let server = TestServer::with(OWN_PORT);
    let admin = server.admin.unwrap();
    let publisher = publishing(&server, "live/a").await;
    let media = playlist::media_path(&server, "live/a").await;
    let end = as_operator(admin, "DELETE", "/api/v1/streams/live/a?block=600").await;
    assert_eq!(end.status(), 204);
    server.wait_for_end("live/a").await;
    assert!(
        get(server.http, &media)
            .await
            .text()
            .contains("#EXT-X-ENDLIST")
    );
    let stream = json_of(&as_operator(admin, "GET", "/api/v1/streams/live/a").await);
    assert_eq!(
        (&stream["state"], &stream["runs"][0]["reason"]),
        (&json!("ended"), &json!("ended"))
    );
    drop(publisher);
    // Others are not concerned, and this one is told for how long.
    publishing(&server, "live/b").await.finish().await;
    let refused = server.registry.publish(
        lhls::stream::name::StreamName::new("live", "a").unwrap(),
        lhls::hls::Now::read(),
    );
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("ended by an operator"), "{text}");
    // Once more is no error.
    assert_eq!(
        as_operator(admin, "DELETE", "/api/v1/streams/live/a")
            .await
            .status(),
        204
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_in_pages() {
    let server = TestServer::with(OWN_PORT);
    let admin = server.admin.unwrap();
    let mut publishers = Vec::new();
    for name in ["live/a", "live/b", "live/c"] {
        publishers.push(publishing(&server, name).await);
    }
    for (list, key) in [("streams", "name"), ("connections", "id")] {
        let (mut seen, mut after) = (Vec::new(), String::new());
        loop {
            let page = json_of(
                &as_operator(admin, "GET", &format!("/api/v1/{list}?limit=2{after}")).await,
            );
            seen.extend(
                page[list]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|entry| entry[key].clone()),
            );
            match &page["next"] {
                Value::Null => break,
                Value::String(next) => after = format!("&after={next}"),
                next => after = format!("&after={next}"),
            }
        }
        assert_eq!(seen.len(), 3, "{list}: {seen:?}");
    }
    for publisher in publishers {
        publisher.finish().await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_shuts_down_wants_no_new_viewers() {
    let server = TestServer::with(OWN_PORT);
    let publisher = publishing(&server, "live/a").await;
    let media = playlist::media_path(&server, "live/a").await;
    // A viewer who is there keeps the port open for the last playlists.
    let mut viewer = Viewer::connect(server.http).await;
    viewer.ask("GET", &media, &[]).await;
    viewer.response().await;
    let http = server.http;
    let ending = tokio::spawn(server.stop());
    let mut statuses = Vec::new();
    loop {
        viewer.ask("GET", "/readyz", &[]).await;
        let answer = viewer.response().await;
        statuses.push(answer.status());
        if answer.status() == 503 {
            assert!(answer.text().contains("shutting down"));
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(get(http, "/healthz").await.status(), 200);
    drop((viewer, publisher));
    ending.await.unwrap();
}

/// Whether an answer is one that the description has for this operation.
fn check(description: &Value, operation: &Value, response: &Response) {
    let status = response.status().to_string();
    let promised = follow(description, &operation["responses"][&status]);
    assert!(
        promised.is_object(),
        "{status} is not promised by {}",
        operation["operationId"]
    );
    let schema = &promised["content"]["application/json"]["schema"];
    let place = format!("{} {status}", operation["operationId"]);
    fits(description, schema, &json_of(response), &place);
}

fn follow<'a>(description: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(path) => description
            .pointer(path.strip_prefix('#').unwrap())
            .unwrap(),
        None => value,
    }
}

/// What of JSON Schema the description uses.
fn fits(description: &Value, schema: &Value, value: &Value, place: &str) {
    let schema = follow(description, schema);
    if let Some(choices) = schema["oneOf"].as_array() {
        let schema = &choices[usize::from(value.is_null())];
        return fits(description, schema, value, place);
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let allowed = match &schema["type"] {
        Value::Null => vec![],
        Value::Array(kinds) => kinds.iter().map(|kind| kind.as_str().unwrap()).collect(),
        one => vec![one.as_str().unwrap()],
    };
    let fitting = allowed.contains(&kind) || kind == "integer" && allowed.contains(&"number");
    assert!(
        allowed.is_empty() || fitting,
        "{place}: {value} is no {allowed:?}"
    );
    if let Some(values) = schema["enum"].as_array() {
        assert!(
            values.contains(value),
            "{place}: {value} is none of {values:?}"
        );
    }
    if let (Some(least), Some(number)) = (schema["minimum"].as_f64(), value.as_f64()) {
        assert!(number >= least, "{place}: {value} is less than {least}");
    }
    if let Some(elements) = value.as_array() {
        for element in elements {
            fits(description, &schema["items"], element, place);
        }
    }
    if let (Some(fields), Some(properties)) = (value.as_object(), schema["properties"].as_object())
    {
        let given: Vec<&String> = fields.keys().collect();
        let mut promised: Vec<&String> = properties.keys().collect();
        promised.sort();
        assert_eq!(given, promised, "{place}");
        for (name, field) in fields {
            fits(
                description,
                &properties[name],
                field,
                &format!("{place}.{name}"),
            );
        }
    }
}
