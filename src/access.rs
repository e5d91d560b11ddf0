//! `lhls key` and `lhls sign`, and what is said at the start about who may publish.

use std::io::Write;
use std::process::ExitCode;

use lhls::auth::{sign, unix_seconds};
use lhls::cli::{KeyCommand, SignArgs};
use lhls::config::Access;
use lhls::config::secret::Secret;
use lhls::hooks;
use lhls::stream::name::StreamName;
use tracing::warn;

use super::usage_error;

/// Makes a stream key.
pub(super) fn key(command: &KeyCommand) -> ExitCode {
    let KeyCommand::New { name, quiet } = command;
    let key = match Secret::random() {
        Ok(key) => key,
        Err(error) => return usage_error(&error.into()),
    };
    let key = key.reveal();
    if *quiet {
        return print(&format!("{key}\n"));
    }
    let one = name.to_string().replace('*', "NAME");
    let (app, stream) = one.rsplit_once('/').unwrap_or(("", &one));
    let alone = match name.one() {
        Some(_) => format!("Server rtmp://HOST/{app}, Stream Key {key}\n           or Stream Key "),
        None => format!("Server rtmp://HOST/{app}, Stream Key "),
    };
    print(&format!(
        "{key}

To the server, one of
  file     [keys]
           \"{name}\" = \"{key}\"
  variable LHLS_KEYS={name}={key}

To the encoder, one of
  OBS      {alone}{stream}?key={key}
  ffmpeg   rtmp://HOST/{one}?key={key}
  login    rtmp://USER:{key}@HOST/login/{stream}

Viewers never see it: they play http://HOST:9094/{one}/playlist.m3u8
"
    ))
}

/// Signs an address.
pub(super) fn sign(args: &SignArgs) -> ExitCode {
    let Some(secret) = args.playback_secret.first() else {
        return usage_error(&anyhow::anyhow!(
            "there is no secret to sign with: give --config FILE with playback-secret in it, or LHLS_PLAYBACK_SECRET"
        ));
    };
    match signed(&args.url, secret, args.ttl.0.as_secs()) {
        Some(url) => print(&format!("{url}\n")),
        None => usage_error(&anyhow::anyhow!(
            "{:?} is no stream's address, as in http://HOST:PORT/APP/NAME/playlist.m3u8 or http://HOST:PORT/APP/NAME/",
            args.url
        )),
    }
}

fn signed(url: &str, secret: &Secret, ttl: u64) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let (host, path) = rest.split_once('/')?;
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path, format!("?{query}")),
        None => (path, String::new()),
    };
    // One that is signed already is signed anew.
    let path = match path.strip_prefix('@').and_then(|path| path.split_once('/')) {
        Some((_, path)) => path,
        None => path,
    };
    let (name, _) = path.rsplit_once('/')?;
    let valid = StreamName::new(name, "").ok()?;
    if valid.as_str() != name {
        return None;
    }
    let expires = unix_seconds().saturating_add(ttl).div_ceil(60) * 60;
    let token = sign::sign(secret, name, expires);
    Some(format!("{scheme}://{host}/@{token}/{path}{query}"))
}

/// Says who may publish, when that may not be what is wanted.
pub(super) fn warn(access: &Access, hooks: &hooks::Settings) {
    let asks = hooks.url.is_some() && hooks.events.contains(&hooks::Event::Publish);
    if access.is_open() {
        warn!(
            "EVERYBODY who reaches the RTMP port may publish, under any name, and take over any stream (--publish-open)"
        );
    }
    if !access.has_keys() && !access.is_open() && !asks {
        warn!(
            "streams are taken from THIS MACHINE ONLY, since there are no stream keys: `lhls key new` makes one; --publish-open takes them from everybody"
        );
    }
}

fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        // Nobody reads on, as with `| head`.
        Err(_) => ExitCode::FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let secret = Secret::new("a secret of some length");
        let sign = |url: &str| signed(url, &secret, 3600);
        let url = sign("https://h:1/live/a/playlist.m3u8?wait=5").unwrap();
        let token = url.strip_prefix("https://h:1/@").unwrap();
        let (token, rest) = token.split_once('/').unwrap();
        assert_eq!(rest, "live/a/playlist.m3u8?wait=5");
        let expires = sign::verify(
            std::slice::from_ref(&secret),
            token,
            "live/a",
            unix_seconds(),
        );
        let expires = expires.unwrap();
        assert!((unix_seconds() + 3600..=unix_seconds() + 3660).contains(&expires));
        assert!(sign(&url).unwrap().matches('@').count() == 1);
        assert!(sign("http://h/live/a/").is_some());
        for bad in [
            "",
            "h/live/a/playlist.m3u8",
            "http://h",
            "http://h/playlist.m3u8",
            "http://h//a/x",
        ] {
            assert!(sign(bad).is_none(), "{bad}");
        }
    }
}
