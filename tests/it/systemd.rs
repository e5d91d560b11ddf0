//! What systemd is told (`Type=notify`, `WatchdogSec`, `ExecReload`), heard on a socket of the test's own, and the two ways to end.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use tokio::process::{Child, Command};

use crate::common::{PATIENCE, within};
use crate::config_file::Toml;

#[tokio::test(flavor = "multi_thread")]
async fn ready_alive_and_stopping() {
    let systemd = Systemd::new("ends");
    let mut server = systemd.start(&[("WATCHDOG_USEC", "200000")]);
    let ready = systemd.hear();
    assert!(ready.starts_with("READY=1\nSTATUS=publish to rtmp://127.0.0.1:"));
    for _ in 0..3 {
        assert_eq!(systemd.hear(), "WATCHDOG=1\n");
    }
    assert_eq!(end(&mut server, "TERM").await, Some(0));
    let told = systemd.hear_until("STOPPING=1\n");
    assert!(told.iter().all(|text| text == "WATCHDOG=1\n"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_watchdog_of_another_process_is_none_of_its_business() {
    let systemd = Systemd::new("other");
    let variables = [("WATCHDOG_USEC", "1000"), ("WATCHDOG_PID", "1")];
    let mut server = systemd.start(&variables);
    assert!(systemd.hear().starts_with("READY=1\n"));
    assert_eq!(end(&mut server, "USR2").await, Some(0));
    assert!(
        systemd.heard_nothing(),
        "leaving for an upgrade is not stopping"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn reloads_begin_and_end() {
    let systemd = Systemd::new("reload");
    let file = Toml::new("retain = \"20s\"\n");
    let mut server = systemd.start(&[("LHLS_CONFIG", file.path())]);
    let ready = systemd.hear();
    // The last one is an error; what stood before goes on, and so does the server.
    for text in ["retain = \"30s\"\n", "retain = 30\n"] {
        file.write(text);
        send(&server, "HUP").await;
        assert_eq!(systemd.hear(), "RELOADING=1\n");
        assert_eq!(systemd.hear(), ready, "the same status");
    }
    assert_eq!(end(&mut server, "TERM").await, Some(0));
    assert!(systemd.hear().starts_with("STOPPING=1\n"));
}

struct Systemd {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Systemd {
    fn new(name: &str) -> Self {
        // Paths of sockets are short.
        let file = format!("lhls-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(file);
        let _ = std::fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, path }
    }

    fn start(&self, variables: &[(&str, &str)]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_lhls"))
            .args(["serve", "--log", "warn"])
            .args(["--rtmp-listen", "127.0.0.1:0"])
            .args(["--http-listen", "127.0.0.1:0"])
            .env("NOTIFY_SOCKET", &self.path)
            .envs(variables.iter().copied())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    fn hear(&self) -> String {
        let mut buffer = [0; 1024];
        let length = self.socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    /// What is told before something that begins like this.
    fn hear_until(&self, start: &str) -> Vec<String> {
        let mut before = Vec::new();
        loop {
            let text = self.hear();
            if text.starts_with(start) {
                return before;
            }
            before.push(text);
        }
    }

    fn heard_nothing(&self) -> bool {
        self.socket
            .set_read_timeout(Some(Duration::from_millis(1)))
            .unwrap();
        self.socket.recv(&mut [0; 1]).is_err()
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn end(server: &mut Child, signal: &str) -> Option<i32> {
    send(server, signal).await;
    within("the server's end", server.wait())
        .await
        .unwrap()
        .code()
}

async fn send(server: &Child, signal: &str) {
    let pid = server.id().unwrap().to_string();
    let arguments = [format!("-{signal}"), pid];
    assert!(
        Command::new("kill")
            .args(arguments)
            .status()
            .await
            .unwrap()
            .success()
    );
}
