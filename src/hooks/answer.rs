//! What a hook answers to a question.

use hyper::StatusCode;
use serde_json::{Map, Value};

/// The answer, understood.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Yes.
    Allow {
        /// The public name, if the hook sets it.
        stream: Option<String>,
        /// Options of the stream, by the names of the configuration.
        options: Map<String, Value>,
    },
    /// No, with a reason for the person at the other end, if there is one.
    Deny(Option<String>),
    /// There is no answer, or none that can be understood: what is wrong with it.
    Down(String),
}

/// Reads an answer: 2xx is yes unless the body says `"allow": false`, 4xx is no, everything else is none.
pub fn read(status: StatusCode, body: &[u8]) -> Verdict {
    let parsed = match body.trim_ascii() {
        b"" => Ok(Value::Null),
        body => serde_json::from_slice::<Value>(body),
    };
    let text = |name: &str| {
        let value = parsed.as_ref().ok()?.get(name)?.as_str()?;
        Some(value.chars().take(MAX_TEXT).collect::<String>())
    };
    if status.is_client_error() {
        return Verdict::Deny(text("reason"));
    }
    if !status.is_success() {
        return Verdict::Down(format!("it answers with status {status}"));
    }
    let fields = match &parsed {
        Ok(Value::Null) => Map::new(),
        Ok(Value::Object(fields)) => fields.clone(),
        _ => return Verdict::Down("its answer is no JSON object".to_owned()),
    };
    match fields.get("allow") {
        None | Some(Value::Bool(true)) => {}
        Some(Value::Bool(false)) => return Verdict::Deny(text("reason")),
        Some(_) => return Verdict::Down("\"allow\" in its answer is not true or false".to_owned()),
    }
    let options = match fields.get("options") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(options)) => options.clone(),
        Some(_) => return Verdict::Down("\"options\" in its answer is no object".to_owned()),
    };
    Verdict::Allow {
        stream: text("stream"),
        options,
    }
}

/// Characters of a reason or a name.
const MAX_TEXT: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let allow = |stream: Option<&str>| Verdict::Allow {
            stream: stream.map(str::to_owned),
            options: Map::new(),
        };
        let deny = |reason: Option<&str>| Verdict::Deny(reason.map(str::to_owned));
        for (status, body, verdict) in [
            (200, "", allow(None)),
            (204, "", allow(None)),
            (200, "{}", allow(None)),
            (
                200,
                r#"{"allow":true,"stream":"live/a"}"#,
                allow(Some("live/a")),
            ),
            (
                200,
                r#"{"allow":false,"reason":"not now"}"#,
                deny(Some("not now")),
            ),
            (403, r#"{"reason":"go away"}"#, deny(Some("go away"))),
            (401, "<html>", deny(None)),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(read(status, body.as_bytes()), verdict, "{body}");
        }
        for (status, body) in [
            (500, ""),
            (302, ""),
            (200, "yes"),
            (200, "[]"),
            (200, r#"{"allow":"yes"}"#),
            (200, r#"{"options":5}"#),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert!(
                matches!(read(status, body.as_bytes()), Verdict::Down(_)),
                "{body}"
            );
        }
    }
}
