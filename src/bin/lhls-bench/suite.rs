//! Everything in one run: starts lhls, the bare loop and nginx on one core, loads them from another, and writes down what came of it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;

use crate::plot::{self, Curve};
use crate::publish::Sent;
use crate::ramp;
use crate::runs::{self, Fetching, Following, Plan, Target, median};
use crate::signal::{self, Signal};
use crate::stats::{self, Json};
use crate::view::Way;
use crate::wire::Connection;

/// What the suite is told.
#[derive(Debug, Args)]
pub struct Options {
    /// The server's binary.
    #[arg(long, default_value = "target/release/lhls")]
    server: PathBuf,
    /// The core for the servers; the suite itself should be pinned to another.
    #[arg(long, default_value_t = 0)]
    core: usize,
    /// nginx, to be compared with; left out when it is not there.
    #[arg(long, default_value = "/usr/sbin/nginx")]
    nginx: PathBuf,
    /// nginx's RTMP module; publishers are compared with it where it is there.
    #[arg(long, default_value = "/usr/lib/nginx/modules/ngx_rtmp_module.so")]
    nginx_rtmp: PathBuf,
    /// Another server to compare publishers with: NAME=COMMAND, in which {rtmp} and {http} stand for addresses to listen on. It must take
    /// any stream under /bench.
    #[arg(long, value_name = "NAME=COMMAND")]
    peer: Vec<String>,
    /// The multivariant playlist of a peer that has LL-HLS, as in NAME=index.m3u8, to compare viewers with as well.
    #[arg(long, value_name = "NAME=PLAYLIST")]
    peer_playlist: Vec<String>,
    /// Where the results go as JSON.
    #[arg(long, default_value = "target/bench.json")]
    json: PathBuf,
    /// Where the plot goes.
    #[arg(long, overrides_with = "plot")]
    plot: Option<PathBuf>,
    /// Shorter runs, for a look.
    #[arg(long)]
    quick: bool,
    /// Only these parts: idle, fan-out, low-latency, ramp, publishers, finished, waiting, first-byte.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

/// Runs it all.
pub async fn run(options: &Options) -> anyhow::Result<()> {
    let machine = Machine::read();
    println!("{machine}");
    let mut results = vec![("machine", machine.json())];
    let seconds = if options.quick { 4 } else { 10 };
    let plan = Plan {
        publishers: 1,
        viewers: 0,
        way: Way::Growing,
        warm_up: Duration::from_secs(6),
        duration: Duration::from_secs(seconds),
    };
    if options.wants("idle") {
        heading("at rest: one live stream of 1.5 Mb/s, nobody watches");
        let (_server, target) = lhls(options, &[])?;
        quiet().await;
        let result = runs::following(&target, &stream(1_500_000), plan).await?;
        println!("{}", result.line());
        results.push(("idle", result.json()));
    }
    if options.wants("fan-out") {
        results.push(("fan_out", fan_out(options, plan).await?));
    }
    if options.wants("low-latency") {
        results.push(("low_latency", low_latency(options, plan).await?));
    }
    if options.wants("ramp") {
        heading("overload");
        let (_server, target) = lhls(options, &["--max-connections", "5000"])?;
        quiet().await;
        let plan = ramp::Plan {
            viewers: 1000,
            most: 5000,
            beyond: 100,
        };
        let result = ramp::run(&target, &stream(1_500_000), plan).await?;
        println!("{}", result.lines());
        if let Some(path) = options.plot.as_ref().and_then(|path| path.parent()) {
            fs::write(
                path.join("overload.svg"),
                plot::ramp(&result, &self::machine()),
            )?;
        }
        results.push(("ramp", result.json()));
    }
    if options.wants("publishers") {
        results.push(("publishers", publishers(options, plan).await?));
    }
    if options.wants("finished") {
        results.push(("finished", finished(options).await?));
    }
    if options.wants("waiting") {
        heading("viewers waiting on an announced segment");
        let mut list = Vec::new();
        for viewers in [1000, 4000] {
            let (_server, target) = lhls(options, &[])?;
            let result =
                runs::waiting(&target, &stream(1_500_000), viewers, Duration::from_secs(5)).await?;
            println!("{}", result.line());
            list.push(result.json());
        }
        results.push(("waiting", Json::List(list)));
    }
    if options.wants("first-byte") {
        heading("from publish to the first playable byte, 1 s GOP");
        let rounds = if options.quick { 5 } else { 20 };
        let mut list = Vec::new();
        for (name, arguments) in [
            ("TARGETDURATION learnt", &[][..]),
            ("TARGETDURATION given", &["--target-duration", "1"]),
        ] {
            let (_server, target) = lhls(options, arguments)?;
            let result = runs::first_byte(&target, &stream(1_500_000), rounds).await?;
            println!("{name}: {}", result.line());
            list.push(result.json());
        }
        results.push(("first_byte", Json::List(list)));
    }
    if let Some(folder) = options.json.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(&options.json, format!("{}\n", Json::Object(results)))
        .with_context(|| format!("cannot write {}", options.json.display()))?;
    println!("\nresults: {}", options.json.display());
    Ok(())
}

async fn fan_out(options: &Options, plan: Plan) -> anyhow::Result<Json> {
    let signal = stream(1_500_000);
    let steps: &[usize] = if options.quick {
        &[1, 100, 1000, 2000]
    } else {
        &[1, 100, 500, 1000, 1500, 2000, 2500, 3000, 4000]
    };
    let mut lists = Vec::new();
    let mut curves = Vec::new();
    for (name, bare) in [("lhls", false), ("bare epoll and writev", true)] {
        heading(&format!(
            "a growing stream of 1.5 Mb/s, 30 pieces a second, from one core: {name}"
        ));
        let mut results: Vec<Following> = Vec::new();
        for &viewers in steps {
            let (_server, target) = if bare {
                baseline(options)?
            } else {
                lhls(options, &[])?
            };
            quiet().await;
            let result = runs::following(&target, &signal, Plan { viewers, ..plan }).await?;
            println!("{}", result.line());
            results.push(result);
        }
        curves.push(Curve::new(name, &results));
        lists.push(Json::List(results.iter().map(Following::json).collect()));
    }
    if let Some(path) = &options.plot {
        fs::write(path, plot::capacity(&curves, &Machine::read().to_string()))
            .with_context(|| format!("cannot write {}", path.display()))?;
        println!("plot: {}", path.display());
    }
    let baseline = lists.pop().context("two lists were made")?;
    let lhls = lists.pop().context("two lists were made")?;
    Ok(Json::Object(vec![("lhls", lhls), ("baseline", baseline)]))
}

/// What the figures are measured on, in words.
pub fn machine() -> String {
    Machine::read().to_string()
}

async fn low_latency(options: &Options, plan: Plan) -> anyhow::Result<Json> {
    heading("LL-HLS: each part and a blocking reload at each");
    let commands = peers(options);
    let mut servers = vec![("lhls, parts of two pictures", "ll.m3u8", None)];
    if !options.peer_playlist.is_empty() {
        servers.push(("lhls, parts of 200 ms", "ll.m3u8?pt=200", None));
    }
    for entry in &options.peer_playlist {
        let known = entry.split_once('=').and_then(|(name, playlist)| {
            let (_, command) = commands.iter().find(|(peer, _)| peer == name)?;
            Some((name, playlist, Some(command.as_str())))
        });
        match known {
            Some(server) => servers.push(server),
            None => println!(
                "--peer-playlist {entry:?} is left out: expected NAME=PLAYLIST of a --peer"
            ),
        }
    }
    let mut all = Vec::new();
    for (name, playlist, command) in servers {
        println!("{name}:");
        let results = low_latency_viewers(options, plan, playlist, command).await?;
        all.push(Json::Object(vec![
            ("server", name.to_owned().into()),
            ("results", results),
        ]));
    }
    Ok(Json::List(all))
}

/// So many viewers of one stream, each time of a server just started: of lhls, or what a peer's command starts.
async fn low_latency_viewers(
    options: &Options,
    plan: Plan,
    playlist: &str,
    command: Option<&str>,
) -> anyhow::Result<Json> {
    // Plans are copied all over, and there are a handful of these.
    let way = Way::LowLatency(playlist.to_owned().leak());
    let mut list = Vec::new();
    let steps: &[usize] = if options.quick {
        &[100, 400]
    } else {
        &[100, 400, 800, 1600]
    };
    for &viewers in steps {
        let (_server, target) = match command {
            Some(command) => peer(options, command)?,
            None => lhls(options, &[])?,
        };
        quiet().await;
        let plan = Plan {
            viewers,
            way,
            ..plan
        };
        let result = runs::following(&target, &stream(1_500_000), plan).await?;
        println!(
            "{} ({:.0} requests/s per core)",
            result.line(),
            result.request_rate / result.server_cores
        );
        list.push(result.json());
    }
    Ok(Json::List(list))
}

async fn publishers(options: &Options, plan: Plan) -> anyhow::Result<Json> {
    heading("publishers on one core, some of them watched");
    let mut list = Vec::new();
    for (publishers, bit_rate) in [
        (50, 2_500_000),
        (200, 1_600_000),
        (200, 2_500_000),
        (200, 5_000_000),
    ] {
        let (_server, target) = lhls(options, &[])?;
        let plan = Plan {
            publishers,
            viewers: publishers / 10,
            ..plan
        };
        quiet().await;
        let result = runs::following(&target, &stream(bit_rate), plan).await?;
        println!(
            "{:.1} Mb/s each: {}",
            f64::from(bit_rate) / 1e6,
            result.line()
        );
        list.push(result.json());
    }
    for (name, command) in peers(options) {
        for bit_rate in [1_600_000, 2_500_000] {
            let (_server, target) = match peer(options, &command) {
                Ok(started) => started,
                Err(error) => {
                    println!("{name} is left out: {error:#}");
                    break;
                }
            };
            quiet().await;
            let plan = Plan {
                publishers: 200,
                ..plan
            };
            let result = runs::following(&target, &stream(bit_rate), plan).await?;
            println!(
                "{name}, nobody watching, {:.1} Mb/s each: {}",
                f64::from(bit_rate) / 1e6,
                result.line()
            );
            list.push(Json::Object(vec![
                ("server", name.clone().into()),
                ("result", result.json()),
            ]));
        }
    }
    Ok(Json::List(list))
}

/// Servers that take publishers, to be compared under the same conditions: by name, with the command that starts them.
fn peers(options: &Options) -> Vec<(String, String)> {
    let lhls = format!(
        "{} --log warn serve --threads 1 --rtmp-listen {{rtmp}} --http-listen {{http}}",
        options.server.display()
    );
    let mut peers = vec![("lhls".to_owned(), lhls)];
    if options.nginx_rtmp.exists() && options.nginx.exists() {
        let nginx = format!(
            "{} -p {{folder}} -c {{folder}}/nginx.conf",
            options.nginx.display()
        );
        peers.push(("nginx-rtmp with HLS".to_owned(), nginx));
    }
    for peer in &options.peer {
        match peer.split_once('=') {
            Some((name, command)) => peers.push((name.to_owned(), command.to_owned())),
            None => println!("--peer {peer:?} is left out: expected NAME=COMMAND"),
        }
    }
    peers
}

/// Starts a server by its command, with a folder of its own in which there is a configuration for nginx.
fn peer(options: &Options, command: &str) -> anyhow::Result<(Process, Target)> {
    let (rtmp, http) = (free_port()?, free_port()?);
    let folder = std::env::temp_dir().join(format!("lhls-bench-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let path = folder.display();
    let user = user();
    // One process that does all the work, so that its processor time is the server's.
    let config = format!(
        "{user} load_module {}; daemon off; master_process off; pid {path}/pid; error_log /dev/null; \
         events {{ worker_connections 20000; }} \
         rtmp {{ access_log off; server {{ listen {rtmp}; chunk_size 4096; application bench {{ \
         live on; hls on; hls_path {path}; hls_fragment 1s; hls_playlist_length 6s; }} }} }} \
         http {{ access_log off; server {{ listen {http}; root {path}; }} }}\n",
        options.nginx_rtmp.display()
    );
    fs::write(folder.join("nginx.conf"), config)?;
    let command = command
        .replace("{rtmp}", &rtmp.to_string())
        .replace("{http}", &http.to_string())
        .replace("{folder}", &path.to_string());
    let mut words = command.split_whitespace();
    let mut started = options.pinned(Path::new(words.next().context("the command is empty")?));
    started
        .args(words)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut process = Process::new(started.spawn()?);
    process.1 = Some(folder);
    wait_for(rtmp)?;
    let pid = Some(process.0.id());
    let rtmp = Some(rtmp);
    Ok((process, Target { rtmp, http, pid }))
}

/// nginx's `user` directive. Its processes run as who runs this, so that they may use the folder; only root can and must say so.
fn user() -> &'static str {
    if fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0) {
        "user root;"
    } else {
        ""
    }
}

/// The same finished segment from lhls and from nginx, by turns, so that what else the machine does meets both.
async fn finished(options: &Options) -> anyhow::Result<Json> {
    heading("a finished segment of about 200 kB on 50 keep-alive connections");
    let signal = stream(1_450_000);
    let (_server, target) = lhls(options, &["--retain", "10m"])?;
    let sent = Arc::new(Sent::default());
    let (_, paths, _publisher) = runs::paused_stream(&target, &signal, &sent, 5).await?;
    let path = paths.first().cloned().context("nothing is listed")?;
    let mut connection = Connection::open(target.http).await?;
    let (_, bytes) = connection.get_bytes(&path).await?;
    println!("{} bytes", bytes.len());
    let nginx = Nginx::start(options, &bytes)?;
    if nginx.is_none() {
        println!("nginx is not here: nothing to compare with");
    }
    let (rounds, seconds) = if options.quick { (3, 2) } else { (5, 4) };
    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    for _ in 0..rounds {
        quiet().await;
        let fetch = async |http, path: &str, pid| {
            runs::fetching(http, path, 50, Duration::from_secs(seconds), Some(pid)).await
        };
        let result = fetch(target.http, &path, target.pid.unwrap_or(0)).await?;
        println!("lhls   {}", result.line());
        ours.push(result);
        if let Some(nginx) = &nginx {
            let result = fetch(nginx.http, "/segment.ts", nginx.worker).await?;
            println!("nginx  {}", result.line());
            theirs.push(result);
        }
    }
    let middle = |results: &[Fetching]| {
        let mut rates: Vec<f64> = results.iter().map(|r| r.bytes_per_second).collect();
        rates.sort_by(f64::total_cmp);
        median(&rates)
    };
    let ratio = middle(&ours) / middle(&theirs);
    println!("lhls to nginx, medians: {ratio:.2}");
    let list = |results: &[Fetching]| Json::List(results.iter().map(Fetching::json).collect());
    Ok(Json::Object(vec![
        ("segment_bytes", bytes.len().into()),
        ("lhls", list(&ours)),
        ("nginx", list(&theirs)),
        ("ratio", ratio.into()),
    ]))
}

impl Options {
    fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == part)
    }

    /// A command that will run on the servers' core.
    fn pinned(&self, program: &Path) -> Command {
        let mut command = Command::new("taskset");
        command.arg("-c").arg(self.core.to_string()).arg(program);
        command.stdin(Stdio::null());
        command
    }
}

/// A process that is ended with its handle, and its folder, which goes too.
struct Process(Child, Option<PathBuf>);

impl Process {
    fn new(child: Child) -> Self {
        Self(child, None)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        if let Some(folder) = &self.1 {
            let _ = fs::remove_dir_all(folder);
        }
    }
}

/// Waits, up to half a minute, for the rest of the machine to be quiet.
async fn quiet() {
    for _ in 0..30 {
        let (own, before) = (stats::Usage::own(), stats::Machine::read());
        tokio::time::sleep(Duration::from_secs(1)).await;
        let known = stats::Usage::own().cpu - own.cpu;
        if stats::Machine::read().disturbance(before, known) < Duration::from_millis(100) {
            return;
        }
    }
}

fn lhls(options: &Options, arguments: &[&str]) -> anyhow::Result<(Process, Target)> {
    let (rtmp, http) = (free_port()?, free_port()?);
    let mut command = options.pinned(&options.server);
    command
        .args(["--log", "warn", "serve", "--threads", "1"])
        .args(["--rtmp-listen", &rtmp.to_string()])
        .args(["--http-listen", &http.to_string()])
        .args(["--publish-timeout", "10m"])
        .args(arguments);
    if !arguments.contains(&"--max-connections") {
        command.args(["--max-connections", "20000"]);
    }
    let process = Process::new(command.spawn().with_context(|| {
        format!(
            "cannot start {}; is it built, is taskset there?",
            options.server.display()
        )
    })?);
    wait_for(http)?;
    let pid = Some(process.0.id());
    Ok((
        process,
        Target {
            rtmp: Some(rtmp),
            http,
            pid,
        },
    ))
}

fn baseline(options: &Options) -> anyhow::Result<(Process, Target)> {
    let http = free_port()?;
    let mut command = options.pinned(&std::env::current_exe()?);
    command.args(["baseline", "--listen", &http.to_string()]);
    let process = Process::new(command.spawn()?);
    wait_for(http)?;
    let pid = Some(process.0.id());
    Ok((
        process,
        Target {
            rtmp: None,
            http,
            pid,
        },
    ))
}

/// nginx with one worker and one file.
struct Nginx {
    process: Process,
    http: SocketAddr,
    worker: u32,
    folder: PathBuf,
}

impl Nginx {
    fn start(options: &Options, file: &[u8]) -> anyhow::Result<Option<Self>> {
        if !options.nginx.exists() {
            return Ok(None);
        }
        let http = free_port()?;
        let folder = std::env::temp_dir().join(format!("lhls-bench-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("segment.ts"), file)?;
        let path = folder.display();
        let user = user();
        let config = format!(
            "{user} worker_processes 1; daemon off; pid {path}/pid; error_log {path}/error.log; \
             events {{ worker_connections 20000; }} \
             http {{ types {{ video/mp2t ts; }} sendfile on; tcp_nopush on; tcp_nodelay on; access_log off; \
             keepalive_requests 1000000000; open_file_cache max=100; \
             client_body_temp_path {path}/t1; proxy_temp_path {path}/t2; fastcgi_temp_path {path}/t3; \
             uwsgi_temp_path {path}/t4; scgi_temp_path {path}/t5; \
             server {{ listen {http}; root {path}; }} }}\n"
        );
        fs::write(folder.join("nginx.conf"), config)?;
        let mut command = options.pinned(&options.nginx);
        command.arg("-c").arg(folder.join("nginx.conf"));
        let process = Process::new(command.stderr(Stdio::null()).spawn()?);
        wait_for(http)?;
        let master = process.0.id();
        let children = fs::read_to_string(format!("/proc/{master}/task/{master}/children"))?;
        let worker = children
            .split_whitespace()
            .next()
            .and_then(|pid| pid.parse().ok())
            .context("nginx has no worker")?;
        Ok(Some(Self {
            process,
            http,
            worker,
            folder,
        }))
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Killed outright, the master would leave its worker behind.
        let _ = Command::new("kill")
            .args(["-TERM", &self.process.0.id().to_string()])
            .status();
        let _ = self.process.0.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// What the figures were measured on.
struct Machine {
    cpu: String,
    cores: usize,
    kernel: String,
}

impl Machine {
    fn read() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let text = read("/proc/cpuinfo");
        let cpu = text
            .lines()
            .find_map(|line| line.strip_prefix("model name"))
            .and_then(|line| line.split_once(": "))
            .map_or("unknown", |(_, name)| name);
        Self {
            cpu: cpu.to_owned(),
            // All of them, not only those that this process is pinned to.
            cores: text
                .lines()
                .filter(|line| line.starts_with("processor"))
                .count(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }

    fn json(&self) -> Json {
        Json::Object(vec![
            ("cpu", self.cpu.clone().into()),
            ("cores", self.cores.into()),
            ("kernel", self.kernel.clone().into()),
            ("unix_seconds", (signal::now() / 1_000_000_000).into()),
        ])
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            out,
            "{}, {} cores, Linux {}",
            self.cpu, self.cores, self.kernel
        )
    }
}

fn stream(bit_rate: u32) -> Arc<Signal> {
    Arc::new(Signal::new(signal::Options {
        bit_rate,
        fps: 30,
        gop: 30,
        audio: true,
    }))
}

/// A port that was free a moment ago.
fn free_port() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn wait_for(address: SocketAddr) -> anyhow::Result<()> {
    for _ in 0..200 {
        if TcpStream::connect(address).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    bail!("nothing listens on {address} after 5 s")
}

fn heading(text: &str) {
    println!("\n{text}");
}
