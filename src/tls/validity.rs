//! From when to when a certificate is valid: the one thing in it that an operator must know before viewers do.
//!
//! X.509 (RFC 5280, 4.1): just enough DER to get to the field, since the certificates are the operator's own. What is in them otherwise
//! is checked by rustls and by clients.

use std::time::{Duration, SystemTime};

/// Not before, not after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) from: SystemTime,
    pub(super) until: SystemTime,
}

impl Validity {
    /// The validity of a certificate; `None` if it cannot be found.
    pub(super) fn of(certificate: &[u8]) -> Option<Self> {
        let (certificate, _) = element(certificate, SEQUENCE)?;
        let (mut fields, _) = element(certificate, SEQUENCE)?;
        // The version is left out in version 1.
        if let Some((_, rest)) = element(fields, VERSION) {
            fields = rest;
        }
        for kind in [INTEGER, SEQUENCE, SEQUENCE] {
            // Serial number, signature algorithm, issuer.
            fields = element(fields, kind)?.1;
        }
        let (validity, _) = element(fields, SEQUENCE)?;
        let (from, rest) = time(validity)?;
        let (until, _) = time(rest)?;
        Some(Self { from, until })
    }
}

/// The content of the element at the start, if it is of this kind, and what comes behind it.
fn element(bytes: &[u8], kind: u8) -> Option<(&[u8], &[u8])> {
    let (&[tag, length], rest) = bytes.split_first_chunk()?;
    let (length, rest) = match length {
        _ if tag != kind => return None,
        0..=0x7f => (usize::from(length), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            let length = digits
                .iter()
                .fold(0, |sum: usize, &digit| sum << 8 | usize::from(digit));
            (length, rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// `YYMMDDhhmmssZ` with years from 1950 on, or `YYYYMMDDhhmmssZ`.
fn time(bytes: &[u8]) -> Option<(SystemTime, &[u8])> {
    let (text, rest, digits) = match element(bytes, UTC_TIME) {
        Some((text, rest)) => (text, rest, 2),
        None => {
            let (text, rest) = element(bytes, GENERALIZED_TIME)?;
            (text, rest, 4)
        }
    };
    let text = std::str::from_utf8(text.strip_suffix(b"Z")?).ok()?;
    if text.len() != digits + 10 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let field = |at: usize, length: usize| text[at..at + length].parse::<u64>().ok();
    let year = match (field(0, digits)?, digits) {
        (year @ 0..50, 2) => 2000 + year,
        (year, 2) => 1900 + year,
        (year, _) => year,
    };
    let rest_of = |index: usize| field(digits + index * 2, 2);
    let (month, day) = (rest_of(0)?, rest_of(1)?);
    if !(1..=12).contains(&month) || day == 0 {
        return None;
    }
    let seconds = rest_of(2)? * 3600 + rest_of(3)? * 60 + rest_of(4)?;
    let since = days(year, month, day)?.checked_mul(86_400)? + seconds;
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(since))?;
    Some((time, rest))
}

/// Days since 1970 in the Gregorian calendar; dates before come out as 1970.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    // Years that begin in March, so that the leap day is a year's last.
    let year = if month <= 2 {
        year.checked_sub(1)?
    } else {
        year
    };
    let months = (month + 9) % 12;
    let since_0 =
        year * 365 + year / 4 - year / 100 + year / 400 + (months * 153 + 2) / 5 + day - 1;
    Some(since_0.saturating_sub(719_468))
}

const INTEGER: u8 = 0x02;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(time: SystemTime) -> u64 {
        time.duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_secs()
    }

    #[test]
    fn times() {
        let parse = |kind: u8, text: &str| {
            let bytes = [&[kind, text.len() as u8], text.as_bytes()].concat();
            time(&bytes).map(|(time, _)| seconds(time))
        };
        assert_eq!(parse(UTC_TIME, "700101000000Z"), Some(0));
        assert_eq!(parse(UTC_TIME, "261121000000Z"), Some(1_795_219_200));
        assert_eq!(parse(UTC_TIME, "500101000000Z"), Some(0), "1950");
        assert_eq!(
            parse(GENERALIZED_TIME, "20000229235959Z"),
            Some(951_868_799)
        );
        assert_eq!(
            parse(GENERALIZED_TIME, "21000301000000Z"),
            Some(4_107_542_400)
        );
        assert!(parse(GENERALIZED_TIME, "99991231235959Z").is_some());
        for text in [
            "",
            "Z",
            "2611210000Z",
            "261121000000",
            "26112100000xZ",
            "261321000000Z",
            "260021000000Z",
        ] {
            assert_eq!(parse(UTC_TIME, text), None, "{text}");
        }
    }

    #[test]
    fn a_certificates_validity() {
        let mut parameters = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        parameters.not_before = rcgen::date_time_ymd(2026, 1, 31);
        parameters.not_after = rcgen::date_time_ymd(2051, 3, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        let validity = Validity::of(certificate.der()).unwrap();
        assert_eq!(seconds(validity.from), 1_769_817_600);
        assert_eq!(seconds(validity.until), 2_561_241_600);
        for length in 0..certificate.der().len() / 2 {
            // Cut off anywhere it is no certificate, and nothing worse.
            assert_eq!(Validity::of(&certificate.der()[..length]), None);
        }
    }
}
