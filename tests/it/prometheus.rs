//! What Prometheus makes of the server: its own programs judge the metrics, the alerts and every query of the dashboard.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::common::PATIENCE;
use crate::common::media::Clip;
use crate::common::playlist;
use crate::common::publisher::Publisher;
use crate::common::server::TestServer;
use crate::common::tools::Tool;
use crate::common::viewer::{self, Viewer};

/// A server on which everything there is a metric for has happened once, if it is easily made to.
async fn busy(options: &[&str]) -> (TestServer, Publisher) {
    let server = TestServer::with(options);
    let mut publisher = Publisher::start(&server, "live/a", &Clip::default()).await;
    publisher.send_until(2600).await;
    let media = playlist::media_path(&server, "live/a").await;
    let entries = playlist::fetch(&server, &media).await.entries;
    let mut viewer = Viewer::connect(server.http).await;
    // The growing segment, waited on, so that a delivery is measured.
    let growing = playlist::sibling(&media, &entries[2].uri);
    viewer.ask("GET", &growing, &[]).await;
    viewer.head().await;
    viewer.next_chunk().await;
    publisher.send_until(2800).await;
    viewer.next_chunk().await;
    viewer::get(server.http, "/nothing").await;
    (server, publisher)
}

#[tokio::test(flavor = "multi_thread")]
async fn promtool_likes_the_metrics() {
    let (server, publisher) = busy(&[]).await;
    let response = viewer::get(server.http, "/metrics").await;
    assert_eq!(
        response.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    let file = scratch("metrics").join("metrics.txt");
    std::fs::write(&file, response.bytes()).unwrap();
    let check = format!("promtool check metrics < '{}'", file.display());
    let said = Tool::start("sh", &["-c", &check]).succeed_silently().await;
    assert_eq!(said, "");
    drop(publisher);
    server.stop().await;
}

#[tokio::test]
async fn promtool_likes_the_alerts() {
    let alerts = ops("alerts.yml").display().to_string();
    Tool::start("promtool", &["check", "rules", &alerts])
        .succeed()
        .await;
    let tests = ops("alerts.test.yml").display().to_string();
    Tool::start("promtool", &["test", "rules", &tests])
        .succeed()
        .await;
}

/// A real Prometheus scrapes a server, and answers whatever the dashboard and the alerts ask.
#[tokio::test(flavor = "multi_thread")]
async fn every_query_of_the_dashboard_is_answered() {
    let token = "a-token-for-this-test";
    let (server, publisher) =
        busy(&["--admin-listen", "127.0.0.1:0", "--admin-token", token]).await;
    let admin = server.admin.unwrap();
    let folder = scratch("prometheus");
    let config = folder.join("prometheus.yml");
    let text = format!(
        "global: {{scrape_interval: 200ms, evaluation_interval: 200ms}}\n\
         rule_files: ['{}']\n\
         scrape_configs:\n\
         - job_name: lhls\n\
         \x20 authorization: {{credentials: {token}}}\n\
         \x20 static_configs: [{{targets: ['{admin}']}}]\n",
        ops("alerts.yml").display()
    );
    std::fs::write(&config, text).unwrap();
    let prometheus = free_port();
    let _running = Tool::start(
        "prometheus",
        &[
            format!("--config.file={}", config.display()),
            format!("--storage.tsdb.path={}", folder.join("data").display()),
            format!("--web.listen-address={prometheus}"),
        ],
    );
    // Twenty scrapes, so that there is something to take rates of.
    let scraped = "count_over_time(up{job=\"lhls\"}[1m]) >= 20 and up{job=\"lhls\"} == 1";
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while ask(prometheus, scraped)
        .await
        .is_none_or(|found| found.is_empty())
    {
        assert!(
            tokio::time::Instant::now() < deadline,
            "Prometheus does not scrape"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    let known: BTreeSet<&str> = server
        .metrics
        .described()
        .map(|metric| metric.name)
        .collect();
    let queries = dashboard_queries();
    assert!(queries.len() > 30);
    for query in &queries {
        for name in metric_names(query) {
            assert!(known.contains(name), "{query}: there is no {name}");
        }
        let asked = query
            .replace("$instance", ".*")
            .replace("$__rate_interval", "1m")
            .replace("$__range", "1m");
        let found = ask(prometheus, &asked)
            .await
            .unwrap_or_else(|| panic!("{asked}: refused"));
        assert!(!found.is_empty(), "{asked}: nothing is found");
    }
    let rules = std::fs::read_to_string(ops("alerts.yml")).unwrap();
    for expression in rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("expr: "))
    {
        for name in metric_names(expression) {
            assert!(known.contains(name), "{expression}: there is no {name}");
        }
        assert!(ask(prometheus, expression).await.is_some(), "{expression}");
    }
    drop(publisher);
    server.stop().await;
}

/// What Prometheus answers to a query, or `None` if it has none, or is not there yet.
async fn ask(prometheus: SocketAddr, query: &str) -> Option<Vec<Value>> {
    let stream = tokio::net::TcpStream::connect(prometheus).await.ok()?;
    let encoded: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let mut viewer = Viewer::over(stream);
    viewer
        .ask("GET", &format!("/api/v1/query?query={encoded}"), &[])
        .await;
    let answer: Value = serde_json::from_slice(&viewer.response().await.bytes()).ok()?;
    (answer["status"] == "success").then(|| answer["data"]["result"].as_array().cloned())?
}

fn dashboard_queries() -> Vec<String> {
    let text = std::fs::read_to_string(ops("grafana.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array())
        .flatten();
    targets
        .map(|target| target["expr"].as_str().unwrap().to_owned())
        .collect()
}

/// The names of our own metrics in a query; a histogram's series are it.
fn metric_names(query: &str) -> impl Iterator<Item = &str> {
    let words = query.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let ours = words.filter(|word| word.starts_with("lhls_") || word.starts_with("process_"));
    ours.map(|word| {
        let stem = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|suffix| word.strip_suffix(suffix));
        stem.unwrap_or(word)
    })
}

/// Whoever adds a metric tells operators of it.
#[test]
fn the_documentation_lists_every_metric() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
    let text = std::fs::read_to_string(file).unwrap();
    let (_, text) = text.split_once("All of them").expect("the list");
    let listed: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("| `lhls_") || line.starts_with("| `process_"))
        .collect();
    let mut wanted: Vec<String> = lhls::metrics::Metrics::new()
        .described()
        .map(|metric| {
            let labels = if metric.labels.is_empty() {
                String::new()
            } else {
                format!("{{{}}}", metric.labels)
            };
            format!("| `{}{labels}` | {} |", metric.name, metric.help)
        })
        .collect();
    wanted.sort();
    assert!(
        listed == wanted,
        "docs/operations.md has to list the metrics so:\n\n{}\n",
        wanted.join("\n")
    );
}

fn ops(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("docs/ops")
        .join(file)
}

/// A folder for this test alone.
fn scratch(name: &str) -> PathBuf {
    let folder =
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn free_port() -> SocketAddr {
    let probe = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    probe.local_addr().unwrap()
}
