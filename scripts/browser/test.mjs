// End to end in a browser: an encoder's RTMP in, pictures on a screen out. scripts/browser/test calls it.
//
// Says what it tests and what came out, one line each; ends with 1 if something failed. The machine has to be able to encode, serve and play one
// 640×360 stream at a time. Arguments: names of tests, or parts of names, to run only those. A test that a busy machine can make stall is tried again
// up to three times, and says so.

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { median, play, summarize } from "./measure.mjs";
import { publish, root, servePages, startBrowser, startServer, until, withCleanup } from "./rig.mjs";

const SECONDS = 10;
const shots = join(root, "target/screenshots");
const tests = [];
const test = (name, run) => tests.push({ name, run });

function check(condition, text) {
  if (!condition) throw new Error(text);
}

const snapshot = (page) => page.evaluate(() => lhlsPage());

for (const file of ["playlist.m3u8", "ll.m3u8"]) {
  for (const player of ["hls.js", "page"]) {
    test(`${player} plays ${file} without a stall`, async ({ browser, pages, stream }) => {
      // Two seconds more for the start, which is not looked at.
      const report = await play({ browser, pages, stream, player, file, seconds: SECONDS + 2 });
      const summary = summarize(report, 1.5);
      check(!summary.fatal.length, `fatal errors: ${summary.fatal.join(", ")}`);
      check(summary.frames > 0, `no picture was shown; ${report.errors.join(", ")}`);
      // Less is no stall by the definition, but nothing that anybody would call playing either.
      const played = Math.round((summary.frames / (SECONDS * 30)) * 100);
      check(played >= 80, `only ${played} % of the pictures were seen`);
      check(summary.stalls === 0, `${summary.stalls} stalls`);
      check(player !== "page" || report.page.fatals === 0, "fatal errors on the page");
      return `${Math.round(summary.p50)} ms, first picture after ${Math.round(summary.firstPicture)} ms, ${played} % of the pictures`;
    });
  }
}

test("the page's latency agrees with the picture's clock", async ({ browser, stream }) => {
  for (const mode of ["lhls", "ll"]) {
    const page = await browser.open();
    try {
      await page.goto(`${stream}/?mode=${mode}`);
      await until(async () => (await snapshot(page)).cells !== null, 10, "the clock in the picture");
      await page.waitForTimeout(4000);
      const [differences, seen] = [[], []];
      for (let i = 0; i < 20; i++) {
        const { cells, program } = await snapshot(page);
        if (cells !== null && program !== null) differences.push(Math.abs(cells - program));
        seen.push(`${Math.round(cells)}/${Math.round(program)}`);
        await page.waitForTimeout(100);
      }
      const difference = median(differences);
      check(differences.length > 10, "the page knows no latency");
      check(difference <= 100, `${mode}: ${Math.round(difference)} ms apart (${seen.join(" ")})`);
    } finally {
      await page.close();
    }
  }
});

test("the page comes back to its latency after 2 s without network", async ({ browser, server, stream }) => {
  const page = await browser.open();
  try {
    await page.goto(`${stream}/?mode=lhls`);
    await page.waitForTimeout(7000);
    const before = (await snapshot(page)).cells;
    check(before !== null, "nothing plays");
    server.process.child.kill("SIGSTOP");
    await new Promise((resolve) => setTimeout(resolve, 2000));
    server.process.child.kill("SIGCONT");
    const started = Date.now();
    // The margin is wider after a stall, by design.
    const after = await until(async () => {
      const { cells } = await snapshot(page);
      return cells !== null && cells < before + 150 && Date.now() - started > 1000 && cells;
    }, 20, "the latency to come back");
    await until(async () => {
      const { cells, program } = await snapshot(page);
      const difference = program === null ? Infinity : Math.abs(cells - program);
      return difference <= 100;
    }, 5, "the stream's date and time to be right again");
    return `${Math.round(before)} ms, and ${Math.round(after)} ms again after ${((Date.now() - started) / 1000).toFixed(1)} s`;
  } finally {
    server.process.child.kill("SIGCONT");
    await page.close();
  }
});

test("the page waits for a stream, plays it, and waits again", async ({ browser, server }) => {
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
      await page.waitForTimeout(5000);
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
  keep(await publish(server, "live/test"));
  const pages = keep(await servePages());
  const browser = keep(await startBrowser());
  const world = { server, pages, browser, stream: `${server.url}/live/test` };
  for (const { name, run } of tests) {
    if (wanted.length && !wanted.some((part) => name.includes(part))) continue;
    const failures = [];
    let result;
    while (failures.length < 3) {
      try {
        result = await run(world);
        break;
      } catch (error) {
        failures.push(error.message);
      }
    }
    const passed = failures.length < 3;
    if (!passed) failed++;
    console.log(`${passed ? "ok    " : "FAILED"} ${name}${passed && result ? `: ${result}` : ""}`);
    failures.forEach((failure, i) => console.log(`         try ${i + 1}: ${failure}`));
  }
});
process.exitCode = failed ? 1 : 0;
