//! Other people's programs: started with their output caught, waited for with a bound, killed by their process id when dropped.

use std::ffi::OsStr;
use std::process::Stdio;

use tokio::process::{Child, Command};

use super::within;

/// A program that runs.
pub(crate) struct Tool {
    name: String,
    child: Child,
}

/// What it left.
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Tool {
    pub(crate) fn start<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> Self {
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{program} cannot be run ({error}); scripts/test installs it")
            });
        Self {
            name: program.to_owned(),
            child,
        }
    }

    /// ffmpeg that tells of warnings and nothing else.
    pub(crate) fn ffmpeg<S: AsRef<OsStr>>(arguments: &[S]) -> Self {
        let mut all: Vec<&OsStr> = ["-hide_banner", "-nostdin", "-v", "warning", "-y"]
            .map(OsStr::new)
            .to_vec();
        all.extend(arguments.iter().map(AsRef::as_ref));
        Self::start("ffmpeg", &all)
    }

    pub(crate) async fn finish(self) -> Finished {
        let what = format!("the end of {}", self.name);
        let output = within(&what, self.child.wait_with_output()).await.unwrap();
        Finished {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Its standard output, when it ended well and said nothing on standard error.
    pub(crate) async fn succeed_silently(self) -> String {
        let name = self.name.clone();
        let finished = self.finish().await;
        assert!(
            finished.code == Some(0) && finished.stderr.is_empty(),
            "{name}: {:?}\n{}",
            finished.code,
            finished.stderr
        );
        finished.stdout
    }

    /// Its standard output, when it ended well.
    pub(crate) async fn succeed(self) -> String {
        let name = self.name.clone();
        let finished = self.finish().await;
        assert_eq!(finished.code, Some(0), "{name}:\n{}", finished.stderr);
        finished.stdout
    }
}
