// End to end in a browser: an encoder's RTMP in, pictures on a screen out. scripts/browser/test calls it.
//
// Says what it tests and what came out, one line each; ends with 1 if something failed. The machine has to be able to encode, serve and play one
// 640×360 stream at a time. Arguments: names of tests, or parts of names, to run only those; `all` for those that are left out otherwise as well.
//
// A machine that stands still makes any player stall. So timers are watched, the page's own and this program's: a failure that coincides with
// late ones says nothing, and the test is tried again, twice at the most, and says so. Any other failure stands.

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { median, play, summarize, watchTimers } from "./measure.mjs";
import { startRelay } from "./relay.mjs";
import { publish, root, servePages, startBrowser, startServer, until, withCleanup } from "./rig.mjs";

const SECONDS = 10;
const TRIES = 3;
/** Timers later than this, ms, are a machine that had no time. Players near the live edge have not much more than that in hand. */
const LATE_MS = 50;
/** For all that is no stall, and has room for more: so late is a machine that cannot be tested on. */
const LATE_OTHERWISE_MS = 200;
/** What was late this long before a player ran dry, ms, may be why: it plays a segment of a second meanwhile. */
const BEFORE_MS = 1500;
const shots = join(root, "target/screenshots");
const tests = [];
const test = (name, run, { long = false } = {}) => tests.push({ name, run, long });
const lateness = watchTimers();

/** Stalls, and whether the machine explains them. */
class Stalled extends Error {
  constructor(disturbed, text) {
    super(text);
    this.disturbed = disturbed;
  }
}

function check(condition, text) {
  if (!condition) throw new Error(text);
}

const snapshot = (page) => page.evaluate(() => lhlsPage());

/** The stalls of a page load must not be there, or be the machine's. */
function checkStalls(report, { freezes }) {
  if (!freezes.length) return;
  const late = freezes.map(([start, end]) => lateness(report, start - BEFORE_MS, end));
  const text = freezes.map(([start, end], i) => `${Math.round(end - start)} ms at ${(start / 1000).toFixed(1)} s (timers ${Math.round(late[i])} ms late)`).join(", ");
  throw new Stalled(late.every((ms) => ms >= LATE_MS), `stalled for ${text}`);
}

/**
 * How far the latency by the stream's date and time, and the figure that the page shows, are from the picture's clock: the farther of them at the
 * median of some looks, ms; and what was seen.
 */
async function disagreement(page) {
  await until(async () => (await snapshot(page)).cells !== null, 10, "the clock in the picture");
  await page.waitForTimeout(4000);
  const [differences, seen] = [[], []];
  for (let i = 0; i < 20; i++) {
    const [{ cells, program }, shown] = await page.evaluate(() => [lhlsPage(), 1000 * parseFloat(document.getElementById("latency").textContent)]);
    if (cells !== null && program !== null) differences.push(Math.max(Math.abs(cells - program), Math.abs(cells - shown)));
    seen.push([cells, program, shown].map(Math.round).join("/"));
    await page.waitForTimeout(100);
  }
  check(differences.length > 10, "the page knows no latency");
  return [Math.round(median(differences)), seen];
}

for (const file of ["playlist.m3u8", "ll.m3u8"]) {
  for (const player of ["hls.js", "page"]) {
    const more = player === "page" ? ", and tells its latency" : "";
    test(`${player} plays ${file} without a stall${more}`, async ({ browser, pages, stream }) => {
      let [apart, seen] = [null, []];
      const meanwhile = player === "page" ? async (page) => ([apart, seen] = await disagreement(page)) : undefined;
      // Two seconds more for the start, which is not looked at.
      const report = await play({ browser, pages, stream, player, file, seconds: SECONDS + 2, meanwhile });
      const summary = summarize(report, 1.5);
      check(!summary.fatal.length, `fatal errors: ${summary.fatal.join(", ")}`);
      check(summary.frames > 0, `no picture was shown; ${report.errors.join(", ")}`);
      checkStalls(report, summary);
      // Less is no stall by the definition, but nothing that anybody would call playing either.
      const played = Math.round(((summary.frames + summary.unread) / (SECONDS * 30)) * 100);
      if (played < 80) throw new Stalled(lateness(report, report.firstPicture, report.duration) >= LATE_MS, `only ${played} % of the pictures were seen`);
      check(player !== "page" || report.page.fatals === 0, "fatal errors on the page");
      check(apart === null || apart <= 100, `what the page says and the picture's clock are ${apart} ms apart (${seen.join(" ")})`);
      const told = apart === null ? "" : `, told to ${apart} ms`;
      return `${Math.round(summary.p50)} ms${told}, first picture after ${Math.round(summary.firstPicture)} ms, ${played} % of the pictures`;
    });
  }
}

const pauses = {
  "2 s without network": ({ relay }) => relay.interrupt(2000),
  "2 s without a processor": ({ browser }) => browser.pausePages(2000),
};

for (const [pause, begin] of Object.entries(pauses)) {
  // hls.js does not look at its latency by itself. With what docs/players.md recommends it jumps when it is later than that says, and not
  // before: on parts it comes back to a second. The page keeps a little more in hand after it has run dry, by design.
  for (const [player, file, within, config] of [
    ["page", "playlist.m3u8", 200],
    ["page", "ll.m3u8", 200],
    ["hls.js", "playlist.m3u8", 200, { liveSyncDuration: 3, liveMaxLatencyDuration: 4 }],
    ["hls.js", "ll.m3u8", 700, { liveSyncDuration: 0.2, liveMaxLatencyDuration: 1 }],
  ]) {
    const name = `${player} on ${file} comes back to its latency after ${pause}`;
    test(name, async (world) => {
      let paused;
      const meanwhile = async (page) => {
        await page.waitForTimeout(5000);
        paused = Date.now();
        await begin(world);
      };
      const stream = `${world.relay.url}/live/test`;
      const report = await play({ ...world, stream, player, file, config, seconds: 15, meanwhile });
      const at = paused - report.origin;
      const [during, rest] = [report.frames.filter(([shown]) => shown > at - 2000 && shown < at), report.frames.filter(([shown]) => shown > at + 2000)];
      const latency = (frames) => median(frames.map(([, value]) => value));
      const [before, after] = [latency(during), latency(rest.filter(([shown]) => shown > report.duration - 2000))];
      check(before !== null && after !== null, "nothing plays");
      const back = rest.find(([, value]) => value < before + within);
      const told = [...report.errors, ...(report.page?.log ?? [])].join(", ");
      if (after >= before + within) {
        // The page's own timers stood still with it; what was late behind that is the machine's doing.
        const late = lateness(report, at + 2200, report.duration);
        throw new Stalled(late >= LATE_MS, `${Math.round(before)} ms before, ${Math.round(after)} ms after (timers ${Math.round(late)} ms late); ${told}`);
      }
      return `${Math.round(before)} ms, ${Math.round(after)} ms after; back within ${((back[0] - at - 2000) / 1000).toFixed(1)} s`;
      // One of each is enough for every day.
    }, { long: player !== "page" || (file === "ll.m3u8") === (pause === "2 s without network") });
  }
}

test("hls.js on ll.m3u8 keeps sound and pictures together when the encoder stumbles", async (world) => {
  const meanwhile = async (page) => {
    await page.waitForTimeout(4000);
    for (const ms of [200, 300, 200]) {
      world.publisher.process.child.kill("SIGSTOP");
      await new Promise((resolve) => setTimeout(resolve, ms));
      world.publisher.process.child.kill("SIGCONT");
      await page.waitForTimeout(2500);
    }
  };
  const report = await play({ ...world, player: "hls.js", file: "ll.m3u8", seconds: 14, meanwhile });
  // When a picture was drawn, by its clock, less its time in the player, which is the sound's as well.
  const drawn = report.frames.map(([shown, latency, time]) => shown - latency - 1000 * time);
  const [start, end] = [drawn.slice(0, 30), drawn.slice(-30)].map(median);
  check(start !== null, "nothing plays");
  const apart = Math.round(end - start);
  check(Math.abs(apart) <= 70, `pictures have moved by ${apart} ms against the sound`);
  return `moved by ${apart} ms`;
});

test("the page waits for a stream, plays it, and waits again", async ({ browser, keep }) => {
  const server = keep(await startServer(["--reconnect-window", "3s"]));
  const page = await browser.open();
  try {
    await page.goto(`${server.url}/live/later/`);
    await until(async () => (await snapshot(page)).state === "waiting", 5, "the page to wait");
    for (const round of [1, 2]) {
      const publisher = await publish(server, "live/later", [], false);
      try {
        await until(async () => (await snapshot(page)).state === "playing", 10, `round ${round}: the page to play`);
        await page.waitForTimeout(2000);
      } finally {
        await publisher.stop();
      }
      await until(async () => (await snapshot(page)).state === "waiting", 15, `round ${round}: the page to wait again`);
    }
  } finally {
    await page.close();
    await server.stop();
  }
});

test("pictures of the page, for people to look at", async ({ browser, server, stream }) => {
  mkdirSync(shots, { recursive: true });
  const views = {
    desktop: { viewport: { width: 1280, height: 900 } },
    dark: { viewport: { width: 1280, height: 900 }, colorScheme: "dark" },
    phone: { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true },
  };
  for (const [name, options] of Object.entries(views)) {
    const page = await browser.open(options);
    const problems = [];
    page.on("pageerror", (error) => problems.push(error.message));
    page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
    try {
      await page.goto(`${stream}/`);
      await until(async () => (await snapshot(page)).state === "playing", 10, "the page to play");
      await page.waitForTimeout(2000);
      check(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${name}: the page is wider than the screen`);
      await page.screenshot({ path: join(shots, `player-${name}.png`), fullPage: true });
      await page.goto(server.url);
      await page.waitForTimeout(500);
      await page.screenshot({ path: join(shots, `list-${name}.png`), fullPage: true });
      check(!problems.length, `${name}: ${problems.join(", ")}`);
    } finally {
      await page.close();
    }
  }
  return shots;
});

const wanted = process.argv.slice(2);
let failed = 0;
await withCleanup(async (keep) => {
  const server = keep(await startServer());
  const publisher = keep(await publish(server, "live/test"));
  const pages = keep(await servePages());
  const browser = keep(await startBrowser());
  const relay = keep(await startRelay(Number(new URL(server.url).port), 0));
  const world = { keep, server, publisher, relay, pages, browser, stream: `${server.url}/live/test` };
  for (const { name, run, long } of tests) {
    if (wanted.length ? !wanted.some((part) => part === "all" || name.includes(part)) : long) continue;
    const failures = [];
    const begun = Date.now();
    let result;
    let passed = false;
    while (!passed && failures.length < TRIES) {
      const started = Date.now();
      try {
        result = await run(world);
        passed = true;
      } catch (error) {
        const late = Math.round(lateness({ origin: started, late: [] }, 0, Date.now() - started));
        const disturbed = error.disturbed ?? late >= LATE_OTHERWISE_MS;
        failures.push(`${error.message}${disturbed ? `; the machine stood still for ${late} ms` : ""}`);
        if (!disturbed) break;
      }
    }
    if (!passed) failed++;
    console.log(`${passed ? "ok    " : "FAILED"} ${name}${passed && result ? `: ${result}` : ""} (${Math.round((Date.now() - begun) / 1000)} s)`);
    failures.forEach((failure, i) => console.log(`         try ${i + 1}: ${failure}`));
  }
});
process.exitCode = failed ? 1 : 0;
