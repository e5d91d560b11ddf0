// Glass-to-glass latency of players that are programs of their own: ffplay, mpv, VLC, GStreamer.
//
//   node scripts/browser/native.mjs URL [--players ffplay,mpv] [--seconds 15] [--json FILE]
//
// URL is the playlist of a stream that carries the test picture at 640x360 (`lhls demo`, `lhls publish-test`). Each player shows it in
// full on an X server of its own (Xvfb); the screen is grabbed thirty times a second and the time cells are read from it. What is
// measured is later than what a person would see by the grab itself, 20 to 30 ms. Needs: xvfb, ffmpeg, and the players.

import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';

const WIDTH = 640, HEIGHT = 360, CELLS = 52;

const PLAYERS = {
  'ffplay': url => ['ffplay', '-loglevel', 'error', '-noborder', '-x', WIDTH, '-y', HEIGHT, url],
  'ffplay nobuffer': url => ['ffplay', '-loglevel', 'error', '-fflags', 'nobuffer', '-flags', 'low_delay', '-framedrop',
    '-noborder', '-x', WIDTH, '-y', HEIGHT, url],
  'mpv': url => ['mpv', '--really-quiet', '--no-config', '--vo=x11', '--ao=null', '--no-border', `--geometry=${WIDTH}x${HEIGHT}+0+0`, url],
  'mpv low-latency': url => ['mpv', '--really-quiet', '--no-config', '--profile=low-latency', '--vo=x11', '--ao=null', '--no-border',
    `--geometry=${WIDTH}x${HEIGHT}+0+0`, url],
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
const json = option('json');
const [url] = args;
if (!url || !wanted.every(name => PLAYERS[name])) {
  console.error(`usage: native.mjs URL [--players ${Object.keys(PLAYERS).join(',')}] [--seconds N] [--json FILE]`);
  process.exit(2);
}

/** The time in the picture, ms since 1970, or null. The rule is that of the test picture's module. */
function readCells(luma) {
  const y0 = Math.round(3 * HEIGHT / 45), y1 = Math.round(5 * HEIGHT / 45);
  const mean = index => {
    const x0 = Math.round(WIDTH * (2.75 + 3 * index) / 160), x1 = Math.round(WIDTH * (4.25 + 3 * index) / 160);
    let sum = 0;
    for (let y = y0; y < y1; y++) for (let x = x0; x < x1; x++) sum += luma[y * WIDTH + x];
    return sum / ((y1 - y0) * (x1 - x0));
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

const start = (command, options = {}) => {
  const child = spawn(command[0], command.slice(1).map(String), { stdio: 'ignore', ...options });
  child.on('error', error => console.error(`${command[0]}: ${error.message}`));
  return child;
};
const pause = ms => new Promise(resolve => setTimeout(resolve, ms));

async function measure(name, display) {
  const x = start(['Xvfb', display, '-screen', '0', `${WIDTH}x${HEIGHT}x24`, '-nolisten', 'tcp']);
  await pause(700);
  const env = { ...process.env, DISPLAY: display, HOME: '/tmp', SDL_AUDIODRIVER: 'dummy', XDG_RUNTIME_DIR: '/tmp' };
  // VLC does not run as root.
  const asOther = name === 'VLC' && process.getuid() === 0 ? ['runuser', '-u', 'nobody', '--'] : [];
  const opened = Date.now();
  const player = start([...asOther, ...PLAYERS[name](url)], { env, detached: true });
  const grab = start(['ffmpeg', '-loglevel', 'error', '-f', 'x11grab', '-framerate', 30, '-draw_mouse', 0, '-video_size', `${WIDTH}x${HEIGHT}`,
    '-i', display, '-pix_fmt', 'gray', '-f', 'rawvideo', '-'], { stdio: ['ignore', 'pipe', 'ignore'], env });
  const latencies = [];
  let rest = Buffer.alloc(0), first = null, last = null, lastNew = null, stalls = 0;
  grab.stdout.on('data', chunk => {
    rest = Buffer.concat([rest, chunk]);
    // Only the newest whole frame tells the present.
    while (rest.length >= WIDTH * HEIGHT) {
      const frame = rest.subarray(0, WIDTH * HEIGHT);
      rest = rest.subarray(WIDTH * HEIGHT);
      if (rest.length >= WIDTH * HEIGHT) continue;
      const now = Date.now(), time = readCells(frame);
      if (time === null || time === last) continue;
      first ??= now;
      if (now - first > 4000) {
        latencies.push(now - time);
        if (now - lastNew > 400) stalls++;
      }
      last = time;
      lastNew = now;
    }
  });
  await pause(seconds * 1000);
  grab.kill();
  try { process.kill(-player.pid, 'SIGKILL'); } catch { player.kill('SIGKILL'); }
  await pause(200);
  x.kill();
  latencies.sort((a, b) => a - b);
  const at = q => latencies.length ? latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * q))] : null;
  return { player: name, pictures: latencies.length, first_picture_ms: first && first - opened, p50_ms: at(0.5), p95_ms: at(0.95), max_ms: at(1), stalls };
}

const results = [];
console.log('player            pictures  first picture     p50     p95     max  stalls');
for (const [index, name] of wanted.entries()) {
  const result = await measure(name, `:${90 + index}`);
  results.push(result);
  const ms = value => (value === null ? '-' : `${value} ms`).padStart(7);
  console.log(`${name.padEnd(16)} ${String(result.pictures).padStart(9)} ${ms(result.first_picture_ms).padStart(14)} ${ms(result.p50_ms)} ${ms(result.p95_ms)} ${ms(result.max_ms)} ${String(result.stalls).padStart(7)}`);
}
if (json) writeFileSync(json, JSON.stringify({ url, seconds, results }, null, 1) + '\n');
