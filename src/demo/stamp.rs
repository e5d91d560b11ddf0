//! The send stamp: an SEI message in every picture that says when the encoder handed it over.
//!
//! The time strip ([`super::cells`]) tells when a picture was drawn, to the millisecond, so what it measures has the encoder in it. The
//! stamp is made just before the picture is sent, to the microsecond: what it measures is the way through server and network alone.
//! It can be read without decoding. It is `user_data_unregistered` (ITU-T H.264, D.1.6 and D.2.6), which decoders ignore and servers pass on:
//!
//! ```text
//!   06  05  18  UUID, 16 bytes  Unix time in µs, 8 bytes, big end first  80       (and emulation prevention bytes)
//!   NAL type size                                                        stop bit
//! ```

/// The stamp's NAL unit, with a length of four bytes in front as FLV wants it.
pub fn write(unix_us: u64) -> Vec<u8> {
    let mut plain = vec![SEI, USER_DATA, PAYLOAD as u8];
    plain.extend(UUID);
    plain.extend(unix_us.to_be_bytes());
    plain.push(0x80);
    let mut unit = vec![0; 4];
    let mut zeros = 0;
    for byte in plain {
        if zeros == 2 && byte <= 3 {
            unit.push(3);
            zeros = 0;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        unit.push(byte);
    }
    let length = (unit.len() - 4) as u32;
    unit[..4].copy_from_slice(&length.to_be_bytes());
    unit
}

/// The time in a NAL unit (without length or start code), if it is a stamp; Unix time in microseconds.
pub fn read(unit: &[u8]) -> Option<u64> {
    if unit.first() != Some(&SEI) || unit.len() > 2 * PAYLOAD {
        return None;
    }
    let mut plain = Vec::with_capacity(unit.len());
    let mut zeros = 0;
    for &byte in unit {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        plain.push(byte);
    }
    let payload = plain.strip_prefix(&[SEI, USER_DATA, PAYLOAD as u8])?;
    let time = payload.strip_prefix(&UUID)?.first_chunk()?;
    Some(u64::from_be_bytes(*time))
}

/// NAL unit type 6, not used for reference.
const SEI: u8 = 6;
const USER_DATA: u8 = 5;
/// UUID and time.
const PAYLOAD: usize = 24;
/// Drawn once, at random: it says that what follows is this stamp.
const UUID: [u8; 16] = [
    0x6c, 0x68, 0x6c, 0x73, 0x9d, 0x1e, 0x4b, 0x52, 0xa7, 0x30, 0x5f, 0xc4, 0x18, 0xe6, 0x2b, 0x91,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for time in [
            0,
            1,
            0x0003,
            0x0100_0000_0300_0001,
            1_767_225_600_123_456,
            u64::MAX,
        ] {
            let unit = write(time);
            assert_eq!(unit[..4], ((unit.len() - 4) as u32).to_be_bytes());
            let start_code = |window: &[u8]| window[0] == 0 && window[1] == 0 && window[2] < 3;
            assert!(!unit[4..].windows(3).any(start_code), "{unit:x?}");
            assert_eq!(read(&unit[4..]), Some(time));
        }
    }

    #[test]
    fn other_units_are_no_stamps() {
        let unit = write(5);
        for wrong in [&[][..], &[6], &[0x65, 1, 2], &unit[..], &unit[4..20]] {
            assert_eq!(read(wrong), None);
        }
        let mut other = unit[4..].to_vec();
        other[8] ^= 1;
        assert_eq!(read(&other), None, "another UUID");
    }
}
