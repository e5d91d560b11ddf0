//! Which pages may read what is served, by their origin (Fetch standard, CORS protocol).
//!
//! With one origin, or `*`, every answer says the same, and caches need to know nothing. With several, the answer names the page's own
//! origin if it is in the list, and says that it varies.

use hyper::header::{self, HeaderMap, HeaderValue};

/// The origins that may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors(Vec<HeaderValue>);

/// What is answered to one request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer<'a> {
    /// Value of `Access-Control-Allow-Origin`, if there is to be one.
    pub(super) origin: Option<&'a HeaderValue>,
    /// Whether another origin would have got another answer.
    pub(super) varies: bool,
}

impl Cors {
    /// Checks a list of origins: `https://example.org`, or `*` alone.
    ///
    /// # Errors
    /// The one that is none.
    pub fn new(origins: &[String]) -> Result<Self, String> {
        let is_origin = |text: &str| {
            let host = text
                .strip_prefix("https://")
                .or_else(|| text.strip_prefix("http://"));
            host.is_some_and(|host| {
                !host.is_empty() && !host.contains(['/', '*', ' ', '?', '#', '@'])
            })
        };
        let alone = origins.len() == 1;
        let values = origins.iter().map(|origin| {
            let good = is_origin(origin) || (alone && origin == "*");
            good.then(|| HeaderValue::from_str(origin).ok())
                .flatten()
                .ok_or_else(|| origin.clone())
        });
        let values: Vec<_> = values.collect::<Result<_, _>>()?;
        if values.is_empty() {
            return Err(String::new());
        }
        Ok(Self(values))
    }

    pub(super) fn answer(&self, headers: &HeaderMap) -> Answer<'_> {
        if let [only] = self.0.as_slice() {
            return Answer {
                origin: Some(only),
                varies: false,
            };
        }
        let asked = headers.get(header::ORIGIN);
        Answer {
            origin: self.0.iter().find(|origin| Some(*origin) == asked),
            varies: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cors(origins: &[&str]) -> Result<Cors, String> {
        let origins: Vec<String> = origins.iter().map(|&origin| origin.to_owned()).collect();
        Cors::new(&origins)
    }

    #[test]
    fn what_is_no_origin_is_named() {
        for good in [
            &["*"][..],
            &["https://a.org"],
            &["http://a", "https://b:8443"],
        ] {
            cors(good).unwrap();
        }
        for (bad, named) in [
            (&["https://a.org/"][..], "https://a.org/"),
            (&["a.org"], "a.org"),
            (&["https://a.org", "*"], "*"),
            (&[""], ""),
            (&[], ""),
        ] {
            assert_eq!(cors(bad).unwrap_err(), named);
        }
    }

    #[test]
    fn of_several_the_asking_one_is_named() {
        let cors = cors(&["https://a.org", "https://b.org"]).unwrap();
        for (origin, expected) in [
            ("https://b.org", Some("https://b.org")),
            ("https://c.org", None),
            ("https://b.org.c.org", None),
        ] {
            let headers =
                HeaderMap::from_iter([(header::ORIGIN, HeaderValue::from_static(origin))]);
            let answer = cors.answer(&headers);
            assert_eq!(answer.origin.map(|value| value.to_str().unwrap()), expected);
            assert!(answer.varies);
        }
    }
}
