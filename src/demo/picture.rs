//! Draws the test picture: clock, date, picture counter, time strip, and a background that moves.
//!
//! Planar YUV 4:2:0, studio range, BT.709. Laid out for 16:9 and legible at any size from 160 × 90 up. Drawing costs a
//! fraction of a millisecond: the background is one row, copied; only the texts are drawn dot by dot.

use super::cells::draw_cells;
use super::font::{ADVANCE, GLYPH_HEIGHT, GLYPH_WIDTH, glyph};

/// A picture in planar YUV 4:2:0 without padding between rows.
#[derive(Debug, Clone)]
pub struct Picture {
    width: usize,
    height: usize,
    y: Vec<u8>,
    u: Vec<u8>,
    v: Vec<u8>,
    /// Two periods of the background's row, so that any window of one width is a slice.
    wave: [Vec<u8>; 3],
}

impl Picture {
    /// An empty picture. Width and height are rounded down to even numbers, and up to at least 160 × 90.
    pub fn new(width: usize, height: usize) -> Self {
        let (width, height) = ((width & !1).max(160), (height & !1).max(90));
        let chroma = width / 2 * (height / 2);
        Self {
            width,
            height,
            y: vec![MARGIN; width * height],
            u: vec![NEUTRAL; chroma],
            v: vec![NEUTRAL; chroma],
            wave: [
                wave(width, 1, 96.0, 28.0, 0.0),
                wave(width / 2, 1, 128.0, 26.0, 0.25),
                wave(width / 2, 2, 128.0, 18.0, 0.0),
            ],
        }
    }

    /// Width and height in pixels.
    pub fn dimensions(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    /// The planes Y, U and V; the stride of Y is the width, that of the others half of it.
    pub fn planes(&self) -> (&[u8], &[u8], &[u8]) {
        (&self.y, &self.u, &self.v)
    }

    /// Draws the picture of one moment: `unix_ms` is the time it shows, `number` counts pictures from 0.
    pub fn draw(&mut self, unix_ms: u64, number: u64) {
        self.background(number);
        draw_cells(&mut self.y, self.width, self.height, self.width, unix_ms);

        // At 640 × 360: dots of 8 pixels for the clock, of 4 for the rest; the lines below the strip's band.
        let large = (self.width / 80).min(self.height / 45).max(1);
        let small = (large / 2).max(1);
        let margin = large;
        let (date, time) = clock(unix_ms);
        let line = |dots: usize| self.height * dots / 45;
        let (date_top, clock_top, counter_top, track_top) =
            (line(10), line(16), line(29), line(36));
        self.text(&date, small, date_top, margin);
        self.text(&time, large, clock_top, margin);
        self.text(
            &format!("LHLS TEST  FRAME {number:07}"),
            small,
            counter_top,
            margin / 2,
        );
        self.track(unix_ms, track_top, large);
    }

    fn background(&mut self, number: u64) {
        // An even number of pixels, so that chroma moves by whole ones too and prediction is exact.
        let step = (self.width / 160).max(1) & !1;
        let shift = ((number as usize).wrapping_mul(step.max(2)) % self.width) & !1;
        let band = (self.height * 8 / 45) & !1;
        for row in self.y.chunks_exact_mut(self.width).skip(band) {
            row.copy_from_slice(&self.wave[0][shift..shift + self.width]);
        }
        let half = self.width / 2;
        for (plane, wave) in [(&mut self.u, &self.wave[1]), (&mut self.v, &self.wave[2])] {
            for row in plane.chunks_exact_mut(half).skip(band / 2) {
                row.copy_from_slice(&wave[shift / 2..shift / 2 + half]);
            }
        }
        self.y[..band * self.width].fill(MARGIN);
    }

    /// One line of text in the middle of the picture's width, on a dark panel.
    fn text(&mut self, text: &str, dot: usize, top: usize, margin: usize) {
        let width = (text.len() * ADVANCE - 1) * dot;
        let left = self.width.saturating_sub(width) / 2;
        self.rectangle(
            left.saturating_sub(margin),
            top.saturating_sub(margin),
            width + 2 * margin,
            GLYPH_HEIGHT * dot + 2 * margin,
            PANEL,
        );
        for (i, character) in text.bytes().enumerate() {
            for (row, bits) in glyph(character).into_iter().enumerate() {
                for column in
                    (0..GLYPH_WIDTH).filter(|column| bits >> (GLYPH_WIDTH - 1 - column) & 1 == 1)
                {
                    self.fill(
                        left + (i * ADVANCE + column) * dot,
                        top + row * dot,
                        dot,
                        dot,
                        WHITE,
                    );
                }
            }
        }
    }

    /// A block that crosses the picture once a second, and a lamp that is lit while the tone beeps.
    fn track(&mut self, unix_ms: u64, top: usize, unit: usize) {
        let (left, width, height) = (2 * unit, self.width - 4 * unit, 4 * unit);
        let ms = (unix_ms % 1000) as usize;
        self.rectangle(left, top, width, height, PANEL);
        let lamp = 6 * unit;
        if ms < BEEP_MS {
            self.fill(left, top, lamp, height, WHITE);
        }
        let way = width - lamp - 3 * unit;
        self.fill(
            left + lamp + unit + (way - unit) * ms / 1000,
            top + unit / 2,
            2 * unit,
            height - unit / 2 * 2,
            AMBER,
        );
    }

    /// A grey rectangle, colour removed; grown to even edges, cut at the picture's.
    fn rectangle(&mut self, left: usize, top: usize, width: usize, height: usize, level: u8) {
        let (right, bottom) = ((left + width + 1) & !1, (top + height + 1) & !1);
        let (left, top) = (left & !1, top & !1);
        self.fill(left, top, right - left, bottom - top, level);
        let half = self.width / 2;
        for plane in [&mut self.u, &mut self.v] {
            for row in plane.chunks_exact_mut(half).take(bottom / 2).skip(top / 2) {
                row[(left / 2).min(half)..(right / 2).min(half)].fill(NEUTRAL);
            }
        }
    }

    fn fill(&mut self, left: usize, top: usize, width: usize, height: usize, level: u8) {
        let (left, right) = (left.min(self.width), (left + width).min(self.width));
        for row in self
            .y
            .chunks_exact_mut(self.width)
            .take(top + height)
            .skip(top)
        {
            row[left..right].fill(level);
        }
    }
}

/// Date and time of day, UTC, as the picture shows them.
fn clock(unix_ms: u64) -> (String, String) {
    let (days, ms) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    (
        format!("{year:04}-{month:02}-{day:02} UTC"),
        format!("{hour:02}:{minute:02}:{second:02}.{:03}", ms % 1000),
    )
}

/// Year, month and day of the Gregorian calendar, `days` after 1970-01-01.
fn civil(mut days: u64) -> (u64, u64, u64) {
    let mut year = 1970;
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    // At most a few hundred rounds, once a picture.
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
        if year > 9999 {
            return (9999, 12, 31);
        }
    }
    let mut month = 1;
    for length in [
        31,
        28 + u64::from(leap(year)),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

/// Two widths of a wave with `periods` in each, around `middle`.
fn wave(width: usize, periods: usize, middle: f64, swing: f64, phase: f64) -> Vec<u8> {
    (0..2 * width)
        .map(|x| {
            let turn = (x % width * periods) as f64 / width as f64 + phase;
            (middle + swing * (turn * std::f64::consts::TAU).sin()).round() as u8
        })
        .collect()
}

const WHITE: u8 = 235;
const AMBER: u8 = 180;
const PANEL: u8 = 24;
const MARGIN: u8 = 60;
const NEUTRAL: u8 = 128;
/// How long the lamp is lit at the start of each second: as long as the tone's beep.
const BEEP_MS: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::cells::decode_cells;

    #[test]
    fn calendar() {
        assert_eq!(clock(0), ("1970-01-01 UTC".into(), "00:00:00.000".into()));
        assert_eq!(
            clock(951_782_400_000),
            ("2000-02-29 UTC".into(), "00:00:00.000".into())
        );
        assert_eq!(
            clock(1_795_223_125_678),
            ("2026-11-21 UTC".into(), "01:05:25.678".into())
        );
        assert_eq!(
            clock(4_107_542_399_999),
            ("2100-02-28 UTC".into(), "23:59:59.999".into())
        );
        assert_eq!(clock(u64::MAX).0, "9999-12-31 UTC");
    }

    #[test]
    fn strip_survives_the_rest_of_the_picture() {
        for (width, height) in [
            (640, 360),
            (1280, 720),
            (160, 90),
            (320, 180),
            (1920, 1080),
            (480, 480),
            (202, 360),
        ] {
            let mut picture = Picture::new(width, height);
            for number in 0..70 {
                let unix_ms = 1_795_223_125_678 + number * 33;
                picture.draw(unix_ms, number);
                assert_eq!(
                    decode_cells(picture.planes().0, width, height, width),
                    Some(unix_ms),
                    "{width}x{height}"
                );
            }
        }
    }

    #[test]
    fn odd_and_tiny_sizes_are_mended() {
        for (width, height) in [(0, 0), (161, 91), (641, 361)] {
            let mut picture = Picture::new(width, height);
            picture.draw(u64::MAX, u64::MAX);
            let (width, height) = picture.dimensions();
            assert_eq!((width % 2, height % 2), (0, 0));
            assert_eq!(picture.planes().1.len() * 4, picture.planes().0.len());
        }
    }
}
