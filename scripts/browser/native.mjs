// Glass-to-glass latency of players that are programs of their own: ffplay, mpv, VLC, GStreamer.
//
//   node scripts/browser/native.mjs URL [--players ffplay,mpv] [--sound own|off] [--seconds 15] [--json FILE]
//
// URL is the playlist of a stream that carries the test picture at 640x360 (`lhls demo`, `lhls publish-test`). Each player shows it in
// full on an X server of its own (Xvfb), whose screen is a file in memory: the time cells are read from that every five milliseconds, so
// what is measured is what a person with an immediate monitor would see. Sound goes to what the players have for playing into nothing (`own`;
// VLC has no such thing, so it plays none), or is not played (`off`). Needs: xvfb, and the players.

import { spawn } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const WIDTH = 640, HEIGHT = 360, CELLS = 52;
const TOP = Math.round(3 * HEIGHT / 45), BOTTOM = Math.round(5 * HEIGHT / 45);
const LOOK_EVERY_MS = 5;

/** What mpv's argument is for each choice of sound. */
const MPV_SOUND = { own: '--ao=null', off: '--no-audio' };

const ffplay = (url, sound, ...more) => ['ffplay', '-loglevel', 'error', ...more, ...(sound === 'off' ? ['-an'] : []),
  '-noborder', '-x', WIDTH, '-y', HEIGHT, url];
const mpv = (url, sound, ...more) => ['mpv', '--really-quiet', '--no-config', ...more, '--vo=x11', MPV_SOUND[sound], '--no-border',
  `--geometry=${WIDTH}x${HEIGHT}+0+0`, url];
const PLAYERS = {
  'ffplay': (url, sound) => ffplay(url, sound),
  'ffplay nobuffer': (url, sound) => ffplay(url, sound, '-fflags', 'nobuffer', '-flags', 'low_delay', '-framedrop'),
  'mpv': (url, sound) => mpv(url, sound),
  'mpv low-latency': (url, sound) => mpv(url, sound, '--profile=low-latency'),
  'VLC': url => ['cvlc', '--quiet', '--no-audio', '--vout=xcb_x11', '--no-video-title-show', '--fullscreen', url],
  'GStreamer': url => ['gst-launch-1.0', '-q', 'playbin3', `uri=${url}`, 'video-sink=ximagesink', 'audio-sink=fakesink sync=true'],
};

const args = process.argv.slice(2);
const option = (name, fallback) => {
  const at = args.indexOf(`--${name}`);
  return at < 0 ? fallback : args.splice(at, 2)[1];
};
const seconds = Number(option('seconds', 15));
const wanted = option('players', Object.keys(PLAYERS).join(',')).split(',');
const sound = option('sound', 'own');
const json = option('json');
const [url] = args;
if (!url || !wanted.every(name => PLAYERS[name]) || !MPV_SOUND[sound]) {
  console.error(`usage: native.mjs URL [--players ${Object.keys(PLAYERS).join(',')}] [--sound own|off] [--seconds N] [--json FILE]`);
  process.exit(2);
}

/** The time in the picture, ms since 1970, or null. `luma` has the rows from TOP to BOTTOM. The rule is that of the test picture's module. */
function readCells(luma) {
  const mean = index => {
    const x0 = Math.round(WIDTH * (2.75 + 3 * index) / 160), x1 = Math.round(WIDTH * (4.25 + 3 * index) / 160);
    let sum = 0;
    for (let y = 0; y < BOTTOM - TOP; y++) for (let x = x0; x < x1; x++) sum += luma(x, y);
    return sum / ((BOTTOM - TOP) * (x1 - x0));
  };
  const white = mean(0), black = mean(1), middle = (white + black) / 2;
  if (white - black < 64) return null;
  const bits = [];
  for (let index = 2; index < CELLS; index++) {
    const value = mean(index);
    if (Math.abs(value - middle) < (white - black) / 5) return null;
    bits.push(value > middle ? 1 : 0);
  }
  let crc = 0xff, time = 0;
  for (const bit of bits.slice(0, 42)) {
    crc = ((crc << 1) & 0xff) ^ (((crc >> 7) ^ bit) ? 0x07 : 0);
    time = time * 2 + bit;
  }
  const sent = bits.slice(42).reduce((sum, bit) => sum * 2 + bit, 0);
  return crc === sent && Math.abs(time - Date.now()) < 600_000 ? time : null;
}

/** The screen of an Xvfb, as it writes it to a file: an X window dump, 32 bits a pixel. */
class Screen {
  constructor(folder) {
    this.file = openSync(join(folder, 'Xvfb_screen0'), 'r');
    const header = Buffer.alloc(100);
    readSync(this.file, header, 0, header.length, 0);
    const field = index => header.readUInt32BE(4 * index);
    const [headerSize, bytesPerLine, colours] = [field(0), field(12), field(19)];
    this.bytesPerLine = bytesPerLine;
    this.start = headerSize + 12 * colours + TOP * bytesPerLine;
    this.rows = Buffer.alloc((BOTTOM - TOP) * bytesPerLine);
  }

  /** The time shown at the moment, or null. */
  time() {
    readSync(this.file, this.rows, 0, this.rows.length, this.start);
    // The second byte of a pixel is its green.
    return readCells((x, y) => this.rows[y * this.bytesPerLine + 4 * x + 1]);
  }

  close() {
    closeSync(this.file);
  }
}

const start = (command, options = {}) => {
  const child = spawn(command[0], command.slice(1).map(String), { stdio: 'ignore', ...options });
  child.on('error', error => {
    console.error(`${command[0]} cannot be run (${error.code}); install ${command[0] === 'Xvfb' ? 'xvfb' : `what has ${command[0]}`}`);
    process.exitCode = 1;
  });
  return child;
};
const pause = ms => new Promise(resolve => setTimeout(resolve, ms));

async function measure(name, display, folder) {
  const x = start(['Xvfb', display, '-screen', '0', `${WIDTH}x${HEIGHT}x24`, '-nolisten', 'tcp', '-fbdir', folder]);
  await pause(1000);
  const env = { ...process.env, DISPLAY: display, HOME: '/tmp', SDL_AUDIODRIVER: 'dummy', XDG_RUNTIME_DIR: '/tmp' };
  // VLC does not run as root.
  const asOther = name === 'VLC' && process.getuid() === 0 ? ['runuser', '-u', 'nobody', '--'] : [];
  const screen = new Screen(folder);
  const opened = Date.now();
  const player = start([...asOther, ...PLAYERS[name](url, sound)], { env, detached: true });
  const latencies = [];
  let first = null, last = null, lastNew = null, stalls = 0;
  const look = () => {
    const time = screen.time(), now = Date.now();
    if (time === null || time === last) return;
    first ??= now;
    if (now - first > 4000) {
      latencies.push(now - time);
      if (now - lastNew > 400) stalls++;
    }
    last = time;
    lastNew = now;
  };
  const looking = setInterval(look, LOOK_EVERY_MS);
  await pause(seconds * 1000);
  clearInterval(looking);
  try { process.kill(-player.pid, 'SIGKILL'); } catch { player.kill('SIGKILL'); }
  await pause(200);
  screen.close();
  x.kill();
  latencies.sort((a, b) => a - b);
  const at = q => latencies.length ? latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * q))] : null;
  return { player: name, pictures: latencies.length, first_picture_ms: first && first - opened, p50_ms: at(0.5), p95_ms: at(0.95), max_ms: at(1), stalls };
}

const folder = mkdtempSync(join(tmpdir(), 'lhls-native-'));
const results = [];
console.log('player            pictures  first picture     p50     p95     max  stalls');
try {
  for (const [index, name] of wanted.entries()) {
    const result = await measure(name, `:${90 + index}`, mkdtempSync(join(folder, 'screen-')));
    results.push(result);
    const ms = value => (value === null ? '-' : `${value} ms`).padStart(7);
    console.log(`${name.padEnd(16)} ${String(result.pictures).padStart(9)} ${ms(result.first_picture_ms).padStart(14)} ${ms(result.p50_ms)} ${ms(result.p95_ms)} ${ms(result.max_ms)} ${String(result.stalls).padStart(7)}`);
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
if (json) writeFileSync(json, JSON.stringify({ url, seconds, sound, results }, null, 1) + '\n');
