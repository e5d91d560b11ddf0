use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;
use crate::config::secret::Secret;

const AWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const KEY: &str = "aaaaaaaaaa";
const MANY: &str = "mmmmmmmmmm";

fn access(rules: Rules) -> Access {
    Access::new(rules).unwrap()
}

fn with_keys() -> Access {
    let entries = [
        Secret::new(format!("live/stream={KEY}")),
        Secret::new(format!("shows/*={MANY}")),
    ];
    access(Rules {
        keys: Keys::new(&entries).unwrap(),
        login_apps: vec!["login".to_owned()],
        ..Rules::default()
    })
}

fn request(app: &str, name: &str, query: Option<&str>) -> PublishRequest {
    PublishRequest {
        app: app.to_owned(),
        name: name.to_owned(),
        query: query.map(str::to_owned),
        tc_url: None,
        flash_ver: None,
    }
}

fn publish(access: &Access, app: &str, name: &str, query: Option<&str>) -> Result<String, Denied> {
    let request = request(app, name, query);
    access
        .publisher(&request, None, AWAY, Instant::now(), false)
        .map(|permit| permit.name.to_string())
}

#[test]
fn without_keys_only_this_machine_may() {
    let closed = access(Rules::default());
    let from = |access: &Access, peer| {
        let request = request("live", "a", None);
        access
            .publisher(&request, None, peer, Instant::now(), false)
            .map(|permit| permit.name.to_string())
    };
    for peer in [
        HERE,
        IpAddr::V6(Ipv6Addr::LOCALHOST),
        IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped()),
    ] {
        assert_eq!(from(&closed, peer).as_deref(), Ok("live/a"));
    }
    assert_eq!(from(&closed, AWAY), Err(Denied::NotLocal));
    let open = access(Rules {
        open: true,
        ..Rules::default()
    });
    assert_eq!(from(&open, AWAY).as_deref(), Ok("live/a"));
}

#[test]
fn forms_of_a_key() {
    let access = with_keys();
    let query = |name: &str| format!("{name}={KEY}");
    for (app, name, query, stream) in [
        // The key as the name, in any application and with any slashes.
        ("live", KEY, None, "live/stream"),
        ("anything", KEY, None, "live/stream"),
        ("", KEY, None, "live/stream"),
        (KEY, "", None, "live/stream"),
        ("live/stream", KEY, None, "live/stream"),
        // Beside the name.
        ("live", "stream", Some(query("key")), "live/stream"),
        ("live", "stream", Some(query("streamKey")), "live/stream"),
        ("live", "stream", Some(query("stream_key")), "live/stream"),
        ("live", "stream", Some(query("token")), "live/stream"),
        (
            "live",
            "stream",
            Some(format!("user=me&pass={KEY}")),
            "live/stream",
        ),
        (
            "live",
            "stream",
            Some(format!("x=1&password={KEY}&y")),
            "live/stream",
        ),
        (
            "live",
            "stream",
            Some(format!("key=%61{}", &KEY[1..])),
            "live/stream",
        ),
        // Without a name.
        ("live", "", Some(query("key")), "live/stream"),
        // One key for many.
        ("shows", "one", Some(format!("key={MANY}")), "shows/one"),
        ("shows/a", "b", Some(format!("key={MANY}")), "shows/a/b"),
        ("shows/one", MANY, None, "shows/one"),
    ] {
        let got = publish(&access, app, name, query.as_deref());
        assert_eq!(got.as_deref(), Ok(stream), "{app} {name} {query:?}");
    }
}

#[test]
fn what_is_not_the_key_is_refused_and_never_repeated() {
    for (app, name, query) in [
        ("live", "stream", None),
        ("live", "stream", Some("key=wrongwrong")),
        ("live", "stream", Some("key=")),
        ("live", "wrongwrong", None),
        ("live", "", None),
        ("", "", None),
        ("live", "%00\n", None),
    ] {
        let denied = publish(&with_keys(), app, name, query).unwrap_err();
        assert_eq!(denied, Denied::Key, "{app} {name} {query:?}");
        assert!(!denied.to_string().contains("wrongwrong"));
    }
    // A right key for another stream: it is told which it is for, but no key.
    let key = format!("key={KEY}");
    let denied = publish(&with_keys(), "live", "other", Some(&key)).unwrap_err();
    assert_eq!(denied.reason(), "other_stream");
    assert!(!denied.to_string().contains(KEY));
    let key = format!("key={MANY}");
    assert!(publish(&with_keys(), "live", "one", Some(&key)).is_err());
    assert!(publish(&with_keys(), "shows", "..", Some(&key)).is_err());
    assert!(publish(&with_keys(), "live", MANY, None).is_err());
}

#[test]
fn ten_thousand_wrong_keys() {
    let access = with_keys();
    let now = Instant::now();
    let mut looked_at = 0;
    for i in 0..10_000 {
        let request = request("live", &format!("guess{i:05}"), None);
        match access.publisher(&request, None, AWAY, now, false) {
            Err(Denied::Key) => looked_at += 1,
            Err(Denied::TooMany(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((looked_at, access.suspects()), (10, 1));
    // Not even the right one is looked at now; from elsewhere it is.
    let right = request("live", KEY, None);
    assert!(matches!(
        access.publisher(&right, None, AWAY, now, false),
        Err(Denied::TooMany(_))
    ));
    assert!(access.publisher(&right, None, HERE, now, false).is_ok());
}

#[test]
fn a_login_is_asked_for_where_it_is_set_aside() {
    let access = with_keys();
    let connecting = |app: &str, query: Option<&str>| {
        let request = ConnectRequest {
            app: app.to_owned(),
            query: query.map(str::to_owned),
        };
        access.connecting(&request, AWAY, Instant::now())
    };
    assert_eq!(connecting("live", None), Connecting::Accept(None));
    assert!(
        matches!(connecting("login", None), Connecting::AskMore(text) if text.contains("code=403 need auth"))
    );
    let user = Some("authmod=adobe&user=me");
    assert!(
        matches!(connecting("login", user), Connecting::AskMore(text) if text.contains("?reason=needauth&user=me&salt="))
    );
    let wrong = Some("authmod=adobe&user=me&challenge=1&response=x&opaque=1-2");
    assert!(matches!(
        connecting("login", wrong),
        Connecting::Refuse(_, Denied::Key)
    ));
    // What has been proved decides; in that application also about the name.
    let proved: Pattern = "live/stream".parse().unwrap();
    for (app, name, fine) in [
        ("login", "anything", true),
        ("login", "", true),
        ("live", "stream", true),
        ("live", "other", false),
    ] {
        let request = request(app, name, user);
        let permit = access.publisher(&request, Some(&proved), AWAY, Instant::now(), false);
        assert_eq!(permit.is_ok(), fine, "{app} {name}");
    }
    let many: Pattern = "shows/*".parse().unwrap();
    let permit = access.publisher(
        &request("login", "one", user),
        Some(&many),
        AWAY,
        Instant::now(),
        false,
    );
    assert_eq!(permit.unwrap().name.as_str(), "shows/one");
}
