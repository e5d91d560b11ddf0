//! Parameters of the API's requests: each known, each given once, each in its range.

use std::borrow::Cow;

/// What is wrong with a query; the text is for whoever wrote it.
pub(super) type Wrong = String;

/// The parameters of a query, decoded.
#[derive(Debug)]
pub(super) struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    /// Reads a query that may have these parameters.
    pub(super) fn parse(query: &'a str, known: &[&str]) -> Result<Self, Wrong> {
        let mut parameters: Vec<(Cow<'_, str>, Cow<'_, str>)> = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Some(name), Some(value)) = (decode(name), decode(value)) else {
                return Err("the query is not UTF-8 in percent-encoding".to_owned());
            };
            if !known.contains(&&*name) {
                return Err(match known {
                    [] => "this takes no parameters".to_owned(),
                    _ => format!(
                        "there is no such parameter; this takes {}",
                        known.join(", ")
                    ),
                });
            }
            if parameters.iter().any(|(other, _)| *other == name) {
                return Err(format!("{name} is given twice"));
            }
            parameters.push((name, value));
        }
        Ok(Self(parameters))
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| &**value)
    }

    /// A whole number in a range, or what it is when not given.
    pub(super) fn number(
        &self,
        name: &str,
        range: std::ops::RangeInclusive<u64>,
        otherwise: u64,
    ) -> Result<u64, Wrong> {
        let Some(text) = self.text(name) else {
            return Ok(otherwise);
        };
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text
            .parse()
            .ok()
            .filter(|number| digits && range.contains(number));
        number.ok_or_else(|| {
            format!(
                "{name} must be a whole number from {} to {}",
                range.start(),
                range.end()
            )
        })
    }
}

/// Undoes percent-encoding (RFC 3986, 2.1). A `+` is a plus. `None` if it is broken, or not UTF-8.
pub(super) fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            out.push(*first);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2)?;
        rest = tail;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        out.push((digit(digits[0])? * 16 + digit(digits[1])?) as u8);
    }
    String::from_utf8(out).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_refused() {
        let known = &["limit", "after"];
        let parse = |query| Query::parse(query, known);
        let query = parse("limit=20&after=live%2Fa&").unwrap();
        assert_eq!(query.text("after"), Some("live/a"));
        assert_eq!(query.number("limit", 1..=100, 50), Ok(20));
        assert_eq!(parse("").unwrap().number("limit", 1..=100, 50), Ok(50));
        assert!(
            parse("limits=20")
                .unwrap_err()
                .contains("this takes limit, after")
        );
        assert!(parse("limit=1&limit=2").unwrap_err().contains("twice"));
        assert!(parse("after=%ff").unwrap_err().contains("UTF-8"));
        assert!(parse("after=%f").unwrap_err().contains("UTF-8"));
        for value in [
            "",
            "0",
            "101",
            "-1",
            "+1",
            "1.5",
            "x",
            "99999999999999999999",
        ] {
            let query = format!("limit={value}");
            let error = Query::parse(&query, known)
                .unwrap()
                .number("limit", 1..=100, 50);
            assert!(error.unwrap_err().contains("from 1 to 100"), "{value}");
        }
    }

    #[test]
    fn percent_signs_are_undone() {
        assert_eq!(decode("a%2fb%2Bc+d").as_deref(), Some("a/b+c+d"));
        for broken in ["%", "%2", "%zz", "%+1", "%c3"] {
            assert_eq!(decode(broken), None, "{broken}");
        }
    }
}
