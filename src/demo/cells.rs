//! The time strip: a row of black and white cells by which a machine reads when a picture was drawn.
//!
//! # Where the cells are
//!
//! Everything is a fraction of the picture, so a reader works at any size, on a canvas or on a decoded frame. With a
//! picture `W` wide and `H` high (as shown, after any scaling):
//!
//! ```text
//!            cell i spans   x from W·(2 + 3i)/160 to W·(5 + 3i)/160     i = 0 … 51
//!                           y from H·2/45         to H·6/45
//!            to read it, average the luma of its middle half:
//!                           x from W·(2.75 + 3i)/160 to W·(4.25 + 3i)/160
//!                           y from H·3/45            to H·5/45
//! ```
//!
//! At 640 × 360 a cell is 12 × 32 pixels and lies on the 4 × 4 blocks of H.264 and of its chroma. Around the row is a
//! quiet margin in dark grey: `H·2/45` above and below, `W·2/160` left and right.
//!
//! # What they say
//!
//! ```text
//!   cell   0      1      2 … 43                             44 … 51
//!          white  black  Unix time in ms, 42 bits,          CRC-8 of the 42 bits
//!                        most significant bit first         most significant bit first
//! ```
//!
//! White is 1. Let `w` and `b` be the levels of cells 0 and 1 and `c = w - b`. The strip is invalid if `c` is less than
//! 64 of 255, if any cell's level is within `c/5` of the middle `(w + b)/2`, or if the CRC is wrong. So a picture blended
//! from two, or put together from parts of two, is refused instead of read as a time that never was.
//! The CRC has polynomial x⁸ + x² + x + 1 (0x07) and starts from 0xff:
//! `crc = 0xff; for each bit: crc = ((crc << 1) & 0xff) ^ (((crc >> 7) ^ bit) ? 0x07 : 0)`.
//!
//! 42 bits last until the year 2109. A reader that knows about what time it is should refuse times far from it, since
//! one random strip in 256 has a right CRC.

/// Cells in the strip.
pub const CELLS: usize = 52;

/// Draws the strip for `unix_ms` into a luma plane. The margin around it is the picture's business.
///
/// Bits of the time above the 42nd are dropped. A plane shorter than `height` rows gets as much as fits.
pub fn draw_cells(luma: &mut [u8], width: usize, height: usize, stride: usize, unix_ms: u64) {
    let word = encode(unix_ms);
    let (top, bottom) = (at(height, 2, 45), at(height, 6, 45));
    for row in luma.chunks_mut(stride.max(1)).take(bottom).skip(top) {
        for i in 0..CELLS {
            let level = if word >> (CELLS - 1 - i) & 1 == 1 {
                WHITE
            } else {
                BLACK
            };
            if let Some(cell) = row.get_mut(at(width, 2 + 3 * i, 160)..at(width, 5 + 3 * i, 160)) {
                cell.fill(level);
            }
        }
    }
}

/// Reads the strip of a decoded picture: Unix time in milliseconds, or `None` if there is no valid strip.
///
/// Works at any size at which a cell is at least two pixels wide, that is from `width` 107 up.
pub fn decode_cells(luma: &[u8], width: usize, height: usize, stride: usize) -> Option<u64> {
    let mut levels = [0i32; CELLS];
    for (i, level) in levels.iter_mut().enumerate() {
        // In quarters of a cell's width, so that the fractions stay whole.
        let x = at(width, 11 + 12 * i, 640)
            ..at(width, 17 + 12 * i, 640).max(at(width, 11 + 12 * i, 640) + 1);
        let y = at(height, 3, 45)..at(height, 5, 45).max(at(height, 3, 45) + 1);
        *level = mean(luma, stride, x, y)?;
    }
    let [white, black, ..] = levels;
    let contrast = white - black;
    if contrast < MIN_CONTRAST {
        return None;
    }
    let mut word = 0u64;
    for level in levels {
        let above = 2 * level - (white + black);
        if above.abs() * 5 < 2 * contrast {
            return None;
        }
        word = word << 1 | u64::from(above > 0);
    }
    let unix_ms = word >> CRC_BITS & ((1 << TIME_BITS) - 1);
    (encode(unix_ms) == word).then_some(unix_ms)
}

/// All cells as a number, cell 0 in the highest of its 52 bits.
fn encode(unix_ms: u64) -> u64 {
    let time = unix_ms & ((1 << TIME_BITS) - 1);
    0b10 << (TIME_BITS + CRC_BITS) | time << CRC_BITS | u64::from(crc8(time))
}

fn crc8(time: u64) -> u8 {
    (0..TIME_BITS).rev().fold(0xff, |crc: u8, i| {
        let feedback = crc >> 7 != (time >> i & 1) as u8;
        crc << 1 ^ if feedback { 0x07 } else { 0 }
    })
}

/// `size * numerator / denominator`, rounded to the nearest pixel.
fn at(size: usize, numerator: usize, denominator: usize) -> usize {
    (size * numerator + denominator / 2) / denominator
}

/// Mean of a rectangle of the plane; `None` if it does not lie inside.
fn mean(
    luma: &[u8],
    stride: usize,
    x: std::ops::Range<usize>,
    y: std::ops::Range<usize>,
) -> Option<i32> {
    let count = i32::try_from(x.len() * y.len()).ok().filter(|&n| n > 0)?;
    let mut sum = 0;
    for row in y {
        let start = row.checked_mul(stride)?;
        sum += luma
            .get(start + x.start..start + x.end)?
            .iter()
            .map(|&level| i32::from(level))
            .sum::<i32>();
    }
    Some(sum / count)
}

const TIME_BITS: usize = 42;
const CRC_BITS: usize = CELLS - 2 - TIME_BITS;
/// Studio range, as the picture is marked.
const WHITE: u8 = 235;
const BLACK: u8 = 16;
/// Less is no strip, or one that nobody should trust.
const MIN_CONTRAST: i32 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: [u64; 5] = [0, 1, 1_795_478_725_123, 0x2aa_aaaa_aaaa, (1 << 42) - 1];

    fn strip(width: usize, height: usize, unix_ms: u64) -> Vec<u8> {
        let mut luma = vec![60; width * height];
        draw_cells(&mut luma, width, height, width, unix_ms);
        luma
    }

    #[test]
    fn reads_what_was_drawn_at_any_size() {
        for (width, height) in [
            (640, 360),
            (1280, 720),
            (1920, 1080),
            (426, 240),
            (256, 144),
            (854, 480),
            (360, 640),
        ] {
            for unix_ms in TIMES {
                let luma = strip(width, height, unix_ms);
                assert_eq!(
                    decode_cells(&luma, width, height, width),
                    Some(unix_ms),
                    "{width}x{height}"
                );
            }
        }
    }

    #[test]
    fn documented_crc() {
        // By the loop in the module's documentation, done by hand for time 1: 41 zero bits, then a one.
        let mut crc = 0xffu32;
        for i in (0..42).rev() {
            let bit = u32::from(i == 0);
            crc = ((crc << 1) & 0xff) ^ if ((crc >> 7) ^ bit) != 0 { 0x07 } else { 0 };
        }
        assert_eq!(u32::from(crc8(1)), crc);
    }

    #[test]
    fn one_wrong_cell_is_refused() {
        for i in 0..CELLS {
            let mut luma = strip(640, 360, TIMES[2]);
            for row in luma.chunks_mut(640).take(48).skip(16) {
                for level in &mut row[8 + 12 * i..20 + 12 * i] {
                    *level = WHITE + BLACK - *level;
                }
            }
            assert_eq!(decode_cells(&luma, 640, 360, 640), None, "cell {i}");
        }
    }

    #[test]
    fn parts_of_two_pictures_are_refused() {
        // Neighbouring pictures, torn at every cell border where the two differ on both sides.
        let (old, new) = (TIMES[2], TIMES[2] + 33);
        let (a, b) = (strip(640, 360, old), strip(640, 360, new));
        for tear in 0..=CELLS {
            let mut luma = a.clone();
            for (row, other) in luma.chunks_mut(640).zip(b.chunks(640)) {
                row[..8 + 12 * tear].copy_from_slice(&other[..8 + 12 * tear]);
            }
            let read = decode_cells(&luma, 640, 360, 640);
            assert!(
                read.is_none_or(|t| t == old || t == new),
                "tear {tear}: {read:?}"
            );
        }
    }

    #[test]
    fn blend_of_two_pictures_is_refused() {
        let (a, b) = (strip(640, 360, TIMES[2]), strip(640, 360, TIMES[2] + 33));
        let luma: Vec<u8> = a
            .iter()
            .zip(&b)
            .map(|(&a, &b)| ((u16::from(a) + u16::from(b)) / 2) as u8)
            .collect();
        assert_eq!(decode_cells(&luma, 640, 360, 640), None);
    }

    #[test]
    fn no_strip_no_time() {
        for level in [0, 16, 60, 128, 255] {
            assert_eq!(decode_cells(&vec![level; 640 * 360], 640, 360, 640), None);
        }
        assert_eq!(decode_cells(&[], 640, 360, 640), None);
        assert_eq!(decode_cells(&[], 0, 0, 0), None);
        assert_eq!(decode_cells(&[1, 2, 3], usize::MAX >> 20, 360, 640), None);
    }

    #[test]
    fn low_contrast_still_reads() {
        let luma: Vec<u8> = strip(640, 360, TIMES[2])
            .iter()
            .map(|&level| 80 + level / 3)
            .collect();
        assert_eq!(decode_cells(&luma, 640, 360, 640), Some(TIMES[2]));
    }
}
