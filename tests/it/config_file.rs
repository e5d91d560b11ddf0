//! The configuration file: what comes first, what is wrong in it, what is shown, and what SIGHUP takes over.

use std::path::PathBuf;

use tokio::process::Command;

use crate::common::program::{LHLS, Program};
use crate::common::tools::{Finished, Tool};
use crate::common::{viewer, within};

#[tokio::test]
async fn flag_before_environment_before_file_before_default() {
    let file = Toml::new("retain = \"30s\"\nmax-streams = 7\nannounce = 3\nthreads = 2\n");
    let mut command = Command::new(LHLS);
    command
        .args(["config", "show", "--config", file.path(), "--retain", "11s"])
        .env("LHLS_RETAIN", "12s")
        .env("LHLS_MAX_STREAMS", "8");
    let output = within("lhls config show", command.output()).await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    for (start, end) in [
        ("retain = \"11s\" ", "# command line"),
        ("max-streams = 8 ", "# environment, LHLS_MAX_STREAMS"),
        ("announce = 3 ", "lhls.toml:3"),
        ("max-publishers = 2000 ", "# default"),
        ("#target-duration ", "# not set"),
        ("log = \"info\" ", "# default"),
    ] {
        let line = text.lines().find(|line| line.starts_with(start));
        assert!(
            line.is_some_and(|line| line.ends_with(end)),
            "{start}: {text}"
        );
    }
    // What is shown is itself a file that can be used.
    let again = Toml::new(&text);
    check(&again, Some(0), &["is all right"]).await;
}

#[tokio::test]
async fn what_is_wrong_is_named_with_file_and_line() {
    for (text, words) in [
        ("\nmax_streams = 5\n", &[":2: ", "max-streams"][..]),
        ("max-streams = 0\n", &[":1: ", "must be from 1 to 10000"]),
        (
            "[log]\nformt = \"json\"\n",
            &[":2: ", "[log]", "\"format\""],
        ),
        ("retain = 20\n", &[":1: ", "retain = \"20s\""]),
        ("a = 1\nb = 2\n", &[":1: ", ":2: "]),
    ] {
        let file = Toml::new(text);
        check(&file, Some(2), words).await;
        // The server itself does not start with it, and says the same.
        let finished = Tool::start(LHLS, &["serve", "--config", file.path()])
            .finish()
            .await;
        assert_eq!(finished.code, Some(2));
        for word in words {
            assert!(finished.stderr.contains(word), "{}", finished.stderr);
        }
    }
    let finished = Tool::start(LHLS, &["config", "check", "/nowhere/lhls.toml"]);
    let finished = finished.finish().await;
    assert_eq!(finished.code, Some(2));
    assert!(
        finished
            .stderr
            .contains("cannot read the configuration file /nowhere/lhls.toml")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_takes_over_what_it_can_and_names_the_rest() {
    let file = Toml::new("cors-origin = \"https://a.example\"\nthreads = 2\n");
    let program = Program::start(&["--config", file.path()]).await;
    let origin = async || {
        let answer = viewer::get(program.http, "/healthz").await;
        answer
            .header("access-control-allow-origin")
            .map(str::to_owned)
    };
    assert_eq!(origin().await.as_deref(), Some("https://a.example"));

    file.write("cors-origin = \"https://b.example\"\nthreads = 1\n");
    program.signal("HUP").await;
    program.wait_for_log("changed: cors-origin").await;
    let line = program.wait_for_log("without effect until").await;
    assert!(line.ends_with("threads"), "{line}");
    assert_eq!(origin().await.as_deref(), Some("https://b.example"));

    // A broken file changes nothing.
    file.write("cors-origin = \"https://c.example\"\nfoo = 1\n");
    program.signal("HUP").await;
    program
        .wait_for_log("the configuration stays as it was")
        .await;
    assert!(
        program
            .log()
            .contains("lhls.toml:2: there is no option \"foo\"")
    );
    assert_eq!(origin().await.as_deref(), Some("https://b.example"));
}

async fn check(file: &Toml, code: Option<i32>, words: &[&str]) {
    let finished: Finished = Tool::start(LHLS, &["config", "check", file.path()])
        .finish()
        .await;
    let said = format!("{}{}", finished.stdout, finished.stderr);
    assert_eq!(finished.code, code, "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is missing: {said}");
    }
}

/// A configuration file in a folder of its own, which goes with it.
pub(crate) struct Toml(PathBuf);

impl Toml {
    pub(crate) fn new(text: &str) -> Self {
        let folder = std::env::temp_dir().join(format!(
            "lhls-config-{}-{:?}",
            std::process::id(),
            std::time::Instant::now()
        ));
        let folder = PathBuf::from(
            folder
                .to_string_lossy()
                .replace([' ', '{', '}', ':', ','], ""),
        );
        std::fs::create_dir_all(&folder).unwrap();
        let file = Self(folder.join("lhls.toml"));
        file.write(text);
        file
    }

    pub(crate) fn write(&self, text: &str) {
        std::fs::write(&self.0, text).unwrap();
    }

    pub(crate) fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Toml {
    fn drop(&mut self) {
        if let Some(folder) = self.0.parent() {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}
