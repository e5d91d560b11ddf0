//! The few primitives that keys and signatures need: HMAC-SHA256, comparison in constant time, base64, escapes.

use hmac::{Hmac, Mac, NewMac};
use sha2::Sha256;

/// HMAC-SHA256 (RFC 2104) over the parts, one after the other.
pub fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    // Any length of key will do for HMAC.
    let mut out = [0; 32];
    if let Ok(mut mac) = Hmac::<Sha256>::new_varkey(key) {
        for part in parts {
            mac.update(part);
        }
        out.copy_from_slice(&mac.finalize().into_bytes());
    }
    out
}

/// Whether two byte strings are equal, in a time that depends on their lengths only.
pub fn equal(a: &[u8], b: &[u8]) -> bool {
    let differences = a.iter().zip(b).fold(0, |sum, (x, y)| sum | (x ^ y));
    // Without the barrier a compiler may notice that the first difference decides.
    a.len() == b.len() && std::hint::black_box(differences) == 0
}

/// Base64 with the alphabet of URLs and without padding (RFC 4648, 5).
pub fn base64url(bytes: &[u8]) -> String {
    encode(bytes, b'-', b'_')
}

/// Base64 with padding (RFC 4648, 4).
pub fn base64(bytes: &[u8]) -> String {
    let mut text = encode(bytes, b'+', b'/');
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    text
}

/// Two hexadecimal digits a byte.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `%41` as `A`; what is no escape stays as it is. `None` if the result is not UTF-8.
pub fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let escaped = digits
            .filter(|two| first == b'%' && two.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .and_then(|two| u8::from_str_radix(two, 16).ok());
        bytes.push(escaped.unwrap_or(first));
        let used = if escaped.is_some() { 2 } else { 0 };
        rest = after.get(used..).unwrap_or_default();
    }
    String::from_utf8(bytes).ok()
}

fn encode(bytes: &[u8], plus: u8, slash: u8) -> String {
    let digit = |value: u32| match (value & 63) as u8 {
        value @ 0..26 => b'A' + value,
        value @ 26..52 => b'a' + value - 26,
        value @ 52..62 => b'0' + value - 52,
        62 => plus,
        _ => slash,
    };
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |i: usize| u32::from(group.get(i).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..=group.len() {
            text.push(char::from(digit(bits >> (18 - 6 * i))));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, test case 2.
    #[test]
    fn known_mac() {
        let mac = hmac_sha256(b"Jefe", &[b"what do ya want ", b"for nothing?"]);
        assert_eq!(
            hex(&mac),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    /// RFC 4648, section 10.
    #[test]
    fn known_base64() {
        for (text, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(text.as_bytes()), encoded);
            assert_eq!(base64url(text.as_bytes()), encoded.trim_end_matches('='));
        }
        assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
        assert_eq!(base64url(&[0xfb, 0xff]), "-_8");
    }

    #[test]
    fn equality() {
        assert!(equal(b"", b""));
        assert!(equal(b"abc", b"abc"));
        for (a, b) in [("abc", "abd"), ("abc", "ab"), ("", "a"), ("bbc", "abc")] {
            assert!(!equal(a.as_bytes(), b.as_bytes()), "{a} {b}");
        }
    }

    #[test]
    fn escapes() {
        for (text, plain) in [
            ("", Some("")),
            ("a%20b%2f", Some("a b/")),
            ("100%", Some("100%")),
            ("%4", Some("%4")),
            ("%+1", Some("%+1")),
            ("%ff", None),
        ] {
            assert_eq!(unescape(text).as_deref(), plain, "{text}");
        }
    }
}
