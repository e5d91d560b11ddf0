//! MD5 (RFC 1321), for the one protocol here that is bound to it: [`super::login`]. It is broken and protects nothing else.

/// The digest of all parts, one after the other.
pub(super) fn md5(parts: &[&[u8]]) -> [u8; 16] {
    let mut message = parts.concat();
    let bits = (message.len() as u64).wrapping_mul(8);
    message.push(0x80);
    while message.len() % 64 != 56 {
        message.push(0);
    }
    message.extend_from_slice(&bits.to_le_bytes());
    let mut state = [0x6745_2301_u32, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
    for block in message.as_chunks::<64>().0 {
        let mut words = [0; 16];
        for (word, bytes) in words.iter_mut().zip(block.as_chunks::<4>().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        let [mut a, mut b, mut c, mut d] = state;
        for (round, table) in SHIFTS.iter().enumerate() {
            for step in 0..16 {
                let (mix, word) = match round {
                    0 => ((b & c) | (!b & d), step),
                    1 => ((d & b) | (!d & c), 5 * step + 1),
                    2 => (b ^ c ^ d, 3 * step + 5),
                    _ => (c ^ (b | !d), 7 * step),
                };
                // The table of section 3.4: 2^32 times the sine of the step's number.
                let number = (round * 16 + step + 1) as f64;
                let constant = (number.sin().abs() * 4_294_967_296.0) as u32;
                let sum = a
                    .wrapping_add(mix)
                    .wrapping_add(constant)
                    .wrapping_add(words[word % 16]);
                (a, d, c) = (d, c, b);
                b = b.wrapping_add(sum.rotate_left(table[step % 4]));
            }
        }
        for (word, new) in state.iter_mut().zip([a, b, c, d]) {
            *word = word.wrapping_add(new);
        }
    }
    let mut digest = [0; 16];
    for (bytes, word) in digest.as_chunks_mut::<4>().0.iter_mut().zip(state) {
        *bytes = word.to_le_bytes();
    }
    digest
}

/// How far each step rotates, by round.
const SHIFTS: [[u32; 4]; 4] = [
    [7, 12, 17, 22],
    [5, 9, 14, 20],
    [4, 11, 16, 23],
    [6, 10, 15, 21],
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::mac::hex;

    /// RFC 1321, A.5.
    #[test]
    fn known_digests() {
        for (text, digest) in [
            ("", "d41d8cd98f00b204e9800998ecf8427e"),
            ("abc", "900150983cd24fb0d6963f7d28e17f72"),
            (
                "12345678901234567890123456789012345678901234567890123456789012345678901234567890",
                "57edf4a22be3c955ac49da2e2107b67a",
            ),
        ] {
            assert_eq!(hex(&md5(&[text.as_bytes()])), digest);
        }
        assert_eq!(md5(&[b"a", b"bc"]), md5(&[b"abc"]));
    }
}
