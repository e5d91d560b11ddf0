// Measures glass-to-glass latency in real browsers' players; scripts/latency calls it. See --help there.

import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import os from "node:os";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";
import { median, play, quantile, summarize } from "./measure.mjs";
import { distribution, overTime } from "./plot.mjs";
import { startRelay } from "./relay.mjs";
import { publish, root, servePages, startBrowser, startServer, withCleanup } from "./rig.mjs";

const MODES = [
  { id: "lhls", title: "LHLS, key frame each second", file: "playlist.m3u8", gop: "1s" },
  { id: "lhls-0.5", title: "LHLS, key frame each half second", file: "playlist.m3u8", gop: "500ms" },
  { id: "lhls-grow", title: "LHLS, segments as they grow also for scripts", file: "playlist.m3u8?stream", gop: "1s", extra: true },
  { id: "ll", title: "LL-HLS, key frame each second", file: "ll.m3u8", gop: "1s" },
  { id: "ll-200", title: "LL-HLS, parts of 200 ms", file: "ll.m3u8?pt=200", gop: "1s", extra: true },
  { id: "ll-500", title: "LL-HLS, parts of 500 ms", file: "ll.m3u8?pt=500", gop: "1s", extra: true },
];
const PLAYERS = ["page", "hls.js", "video.js", "shaka", "native"];

const HELP = `Usage: scripts/latency [options]

Publishes the test signal to a server of its own, plays it in headless Chromium, reads off every shown picture when it had been drawn,
and prints how old it was. The players are unmodified and have their default settings; "page" is the server's own player page.

  --players LIST   of ${PLAYERS.join(", ")} (all)
  --modes LIST     of ${MODES.map((mode) => mode.id).join(", ")} (${MODES.filter((mode) => !mode.extra).map((mode) => mode.id).join(", ")})
  --seconds N      length of one page load (30)
  --loads N        page loads of each player and mode (1)
  --warm-up N      seconds after the first picture that do not count (5)
  --round-trip MS  puts a line with this delay between the players and the server (0)
  --tls            over HTTPS, which is HTTP/2 in browsers
  --url URL        an already running stream, http://HOST:PORT/APP/NAME, that shows the test signal; its key frames are as they are
  --json FILE      where the numbers go (target/latency.json)
  --pics FOLDER    where the plots go (pics), or none
  --from FILE      measure nothing, draw the plots of these numbers
`;

const { values: options } = parseArgs({
  options: {
    players: { type: "string" }, modes: { type: "string" }, seconds: { type: "string", default: "30" }, loads: { type: "string", default: "1" },
    "warm-up": { type: "string", default: "5" }, "round-trip": { type: "string", default: "0" }, url: { type: "string" }, tls: { type: "boolean" }, json: { type: "string", default: join(root, "target/latency.json") },
    pics: { type: "string", default: join(root, "pics") }, from: { type: "string" }, help: { type: "boolean" },
  },
});
if (options.help) {
  console.log(HELP);
  process.exit(0);
}
if (options.from) {
  const { notes, modes, results, warmUp } = JSON.parse(readFileSync(options.from, "utf8"));
  draw(results, modes, notes, warmUp);
  process.exit(0);
}
const pick = (list, known, what, usual = known) => {
  const wanted = list ? list.split(",") : usual;
  const unknown = wanted.find((one) => !known.includes(one));
  if (unknown) {
    console.error(`scripts/latency: ${what} ${unknown} is not known; there are ${known.join(", ")}`);
    process.exit(2);
  }
  return wanted;
};
const players = pick(options.players, PLAYERS, "player");
const modes = pick(options.modes, MODES.map((mode) => mode.id), "mode", MODES.filter((mode) => !mode.extra).map((mode) => mode.id)).map((id) => MODES.find((mode) => mode.id === id));
const number = (name, least = Number.MIN_VALUE) => {
  const value = Number(options[name]);
  if (value >= least) return value;
  console.error(`scripts/latency: --${name} is ${options[name]}; it has to be a number ${least ? "above 0" : "of at least 0"}`);
  process.exit(2);
};
const [seconds, loads, warmUp] = [number("seconds"), number("loads"), number("warm-up")];
const roundTrip = number("round-trip", 0);

const results = [];
let chromium;
await withCleanup(async (keep) => {
  const pages = keep(await servePages());
  const browser = keep(await startBrowser());
  chromium = browser.version;
  for (const mode of modes) {
    let stream = options.url?.replace(/\/+$/, "");
    const own = [];
    if (!stream) {
      const server = keep(await startServer(["--segment-duration", mode.gop], { tls: options.tls }));
      own.push(server, keep(await publish(server, "live/test", ["--gop", mode.gop])));
      let url = server.secureUrl ?? server.url;
      if (roundTrip) {
        const relay = keep(await startRelay(Number(new URL(url).port), roundTrip));
        own.push(relay);
        url = relay.url;
      }
      stream = `${url}/live/test`;
      // In a stream's first seconds its playlist is so short that hls.js may start with the key frame it finds, a second late.
      await new Promise((resolve) => setTimeout(resolve, 4000));
    }
    for (const player of players) {
      // Chromium's own player does not know parts: it would play the segments of the list.
      if (mode.file.startsWith("ll") && player === "native") continue;
      const done = [];
      const latencies = [];
      for (let load = 0; load < loads; load++) {
        process.stderr.write(`${mode.id} ${player} ${load + 1}/${loads}  \r`);
        const busy = os.loadavg()[0];
        const report = await play({ browser, pages, stream, player, file: mode.file, seconds });
        const start = report.firstPicture ?? 0;
        const counted = report.frames.filter(([shown]) => shown >= start + warmUp * 1000);
        latencies.push(...counted.map(([, latency]) => latency / 1000));
        done.push({
          ...summarize(report, warmUp),
          errors: report.errors,
          loadAverage: busy,
          series: report.frames.map(([shown, latency]) => [round((shown - start) / 1000, 3), round(latency / 1000, 4)]),
        });
      }
      latencies.sort((a, b) => a - b);
      results.push({ mode: mode.id, player, loads: done, latencies });
      row(results.at(-1), results.length === 1);
    }
    for (const thing of own.reverse()) await thing.stop();
  }
});

const machine = `${os.cpus()[0]?.model.trim() ?? "unknown processor"}, ${os.cpus().length} cores, ${os.type()}`;
const notes = [
  `${new Date().toISOString().slice(0, 10)}, lhls ${commit()}, Chromium ${chromium} headless, ${machine}; server, encoder and browser on this machine.`,
  `640×360, 30 pictures a second${roundTrip ? `, round trip ${roundTrip} ms` : ""}; ${loads} page load${loads > 1 ? "s" : ""} of ${seconds} s each, first ${warmUp} s not counted in the distribution, ` +
    `${results.reduce((sum, result) => sum + result.latencies.length, 0)} pictures read.`,
];
console.log(`\n${notes.join("\n")}`);

mkdirSync(dirname(options.json), { recursive: true });
writeFileSync(options.json, JSON.stringify({ notes, machine, chromium, seconds, warmUp, modes, results: results.map(({ latencies, ...rest }) => rest) }));
console.log(`Numbers: ${options.json}`);
draw(results, modes, notes, warmUp);
if (results.some((result) => !result.latencies.length)) process.exitCode = 1;

function row(result, first) {
  const columns = [10, 9, 7, 7, 7, 7, 7, 7, 7, 8, 8, 9];
  const print = (cells) => console.log(cells.map((cell, i) => (i < 2 ? String(cell).padEnd(columns[i]) : String(cell).padStart(columns[i]))).join(" "));
  if (first) print(["mode", "player", "p50", "worst", "p95", "max", "stalls", "fatal", "first", "dropped", "frames", "estimate"]);
  const of = (key) => result.loads.map((load) => load[key]);
  const sum = (key) => of(key).reduce((total, value) => total + value, 0);
  const ms = (value) => (value === null || value === undefined || !Number.isFinite(value) ? "–" : `${(value / 1000).toFixed(2)}`);
  const estimate = median(of("bandwidth"));
  print([
    result.mode, result.player, ms(median(of("p50"))), ms(Math.max(...of("p50").map((value) => value ?? Infinity))),
    ms((quantile(result.latencies, 0.95) ?? NaN) * 1000), ms((result.latencies.at(-1) ?? NaN) * 1000), sum("stalls"),
    of("fatal").flat().length, ms(median(of("firstPicture"))), sum("dropped"), result.latencies.length,
    estimate ? `${(estimate / 1e6).toFixed(1)}Mb/s` : "–",
  ]);
}

function draw(results, modes, notes, warmUp) {
  if (options.pics === "none") return;
  mkdirSync(options.pics, { recursive: true });
  const counted = results.map((result) => ({
    ...result,
    latencies: result.loads.flatMap((load) => load.series.filter(([at]) => at >= warmUp).map(([, latency]) => latency)).sort((a, b) => a - b),
  }));
  // A tenth of a second is finer than the plot.
  const thin = results.map((result) => ({ ...result, loads: result.loads.map((load) => ({ ...load, series: thinned(load.series) })) }));
  writeFileSync(join(options.pics, "latency-over-time.svg"), overTime(thin, modes, notes));
  writeFileSync(join(options.pics, "latency-distribution.svg"), distribution(counted, modes, notes));
  console.log(`Plots: ${options.pics}/latency-over-time.svg, ${options.pics}/latency-distribution.svg`);
}

function thinned(series) {
  const out = [];
  for (const point of series) if (!out.length || point[0] - out.at(-1)[0] >= 0.1) out.push(point);
  return out;
}

function round(value, digits) {
  return Number(value.toFixed(digits));
}

function commit() {
  try {
    return execFileSync("git", ["-C", root, "rev-parse", "--short", "HEAD"], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  } catch {
    return "of unknown version";
  }
}
