// Reads the time strip of the test picture: a row of black and white cells that says when the picture was drawn.
// Where the cells are and what they say is documented in src/demo/cells.rs; this is the same in JavaScript.
"use strict";

(function (root) {
  const CELLS = 52;
  const TIME_BITS = 42;
  const CRC_BITS = 8;
  // Less contrast than this is no strip, or one that nobody should trust.
  const MIN_CONTRAST = 64;
  // A random strip in 256 has a right CRC; a day is more than any clock is wrong and any buffer is long.
  const PLAUSIBLE_MS = 86_400_000;

  /**
   * The Unix time in milliseconds of a strip, or null. `pixels` is RGBA, `width` × `height`, and holds the full width of the
   * picture and only rows of the middle half of the cells.
   */
  function decode(pixels, width, height) {
    const levels = new Array(CELLS);
    for (let i = 0; i < CELLS; i++) {
      const left = Math.round((width * (11 + 12 * i)) / 640);
      const right = Math.max(Math.round((width * (17 + 12 * i)) / 640), left + 1);
      let sum = 0;
      for (let y = 0; y < height; y++) {
        for (let x = left; x < right; x++) {
          const at = 4 * (y * width + x);
          sum += 0.2126 * pixels[at] + 0.7152 * pixels[at + 1] + 0.0722 * pixels[at + 2];
        }
      }
      levels[i] = sum / (height * (right - left));
    }
    const [white, black] = levels;
    const contrast = white - black;
    if (!(contrast >= MIN_CONTRAST)) return null;
    const middle = (white + black) / 2;
    if (levels.some((level) => Math.abs(level - middle) < contrast / 5)) return null;
    const bits = levels.map((level) => (level > middle ? 1 : 0));
    // Numbers above 2^32: sums, not shifts.
    const value = (from, count) => bits.slice(from, from + count).reduce((sum, bit) => 2 * sum + bit, 0);
    let crc = 0xff;
    for (let i = 2; i < 2 + TIME_BITS; i++) {
      crc = ((crc << 1) & 0xff) ^ ((crc >> 7) ^ bits[i] ? 0x07 : 0);
    }
    if (crc !== value(2 + TIME_BITS, CRC_BITS)) return null;
    const time = value(2, TIME_BITS);
    return Math.abs(time - Date.now()) < PLAUSIBLE_MS ? time : null;
  }

  /** Reads strips off a video element or a VideoFrame by way of a small canvas of its own. */
  class CellReader {
    constructor() {
      this.canvas = document.createElement("canvas");
      this.context = this.canvas.getContext("2d", { willReadFrequently: true });
    }

    /** The Unix time in milliseconds that the picture shows, or null. */
    read(source, width, height) {
      if (!width || !height) return null;
      if (this.canvas.width !== width) {
        this.canvas.width = width;
        this.canvas.height = ROWS;
      }
      try {
        this.context.drawImage(source, 0, (height * 3) / 45, width, (height * 2) / 45, 0, 0, width, ROWS);
        return decode(this.context.getImageData(0, 0, width, ROWS).data, width, ROWS);
      } catch {
        // Media from another origin may be shown but not read.
        return null;
      }
    }
  }

  const ROWS = 4;

  root.lhlsCells = { decode, CellReader };
})(globalThis);
