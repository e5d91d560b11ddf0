//! Times and sizes as people write them: `1s`, `500ms`, `2m`, `64MiB`, `2.5s`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A span of time, written with its unit: ms, s, m or h.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A number of bytes, written with its unit: B, KB, MB, GB (powers of 1000) or KiB, MiB, GiB (powers of 1024).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// Width and height of a picture in pixels, written `640x360`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u32, pub u32);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (width, height) = text.split_once(['x', 'X'])?;
            Some(Self(
                width.trim().parse().ok()?,
                height.trim().parse().ok()?,
            ))
        };
        parse().ok_or_else(|| format!("{text:?} is not a size, as in 640x360"))
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let units = [("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
        let seconds = quantity(text, &units, "a time needs a unit, as in 500ms, 1s or 2m")?;
        Duration::try_from_secs_f64(seconds)
            .map(Self)
            .map_err(|_| format!("{text:?} is too long a time"))
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let units = [
            ("KiB", 1024.0),
            ("MiB", 1024.0 * 1024.0),
            ("GiB", 1024.0 * 1024.0 * 1024.0),
            ("KB", 1e3),
            ("MB", 1e6),
            ("GB", 1e9),
            ("B", 1.0),
        ];
        let bytes = quantity(
            text,
            &units,
            "a size needs a unit, as in 64MiB, 500MB or 2GiB",
        )?;
        if bytes > 1e15 {
            return Err(format!("{text:?} is too large a size"));
        }
        Ok(Self(bytes.round() as u64))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        match millis {
            0 => formatter.write_str("0s"),
            _ if millis.is_multiple_of(60_000) => write!(formatter, "{}m", millis / 60_000),
            _ if millis.is_multiple_of(1000) => write!(formatter, "{}s", millis / 1000),
            _ => write!(formatter, "{millis}ms"),
        }
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            n if n > 0 && n.is_multiple_of(1 << 30) => write!(formatter, "{}GiB", n >> 30),
            n if n > 0 && n.is_multiple_of(1 << 20) => write!(formatter, "{}MiB", n >> 20),
            n if n > 0 && n.is_multiple_of(1 << 10) => write!(formatter, "{}KiB", n >> 10),
            n => write!(formatter, "{n}B"),
        }
    }
}

/// A number times its unit.
fn quantity(text: &str, units: &[(&str, f64)], hint: &str) -> Result<f64, String> {
    let text = text.trim();
    let split = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 = number
        .parse()
        .map_err(|_| format!("{text:?} does not start with a number; {hint}"))?;
    let unit = unit.trim();
    let factor = units
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(unit))
        .map(|(_, factor)| factor);
    factor
        .map(|factor| number * factor)
        .ok_or_else(|| hint.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, millis) in [
            ("1s", 1000),
            ("500ms", 500),
            ("2m", 120_000),
            ("0.5s", 500),
            ("1 h", 3_600_000),
            ("0s", 0),
        ] {
            assert_eq!(
                text.parse::<Span>(),
                Ok(Span(Duration::from_millis(millis))),
                "{text}"
            );
        }
        for text in ["", "1", "s", "1x", "-1s", "1..2s", "99999999999999999999h"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
        assert_eq!(Span(Duration::from_millis(1500)).to_string(), "1500ms");
        assert_eq!(Span(Duration::from_secs(600)).to_string(), "10m");
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("64MiB", 64 << 20),
            ("1kb", 1000),
            ("2GiB", 2 << 30),
            ("10B", 10),
            ("1.5KiB", 1536),
        ] {
            assert_eq!(text.parse::<ByteSize>(), Ok(ByteSize(bytes)), "{text}");
        }
        for text in ["", "64", "MiB", "64 apples", "1e99GB", "9999999999GiB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }
}
