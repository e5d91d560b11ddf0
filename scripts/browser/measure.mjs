// One page load of one player, measured; and what comes out of the measured pictures.

import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const probe = readFileSync(join(here, "page/probe.js"), "utf8");

/** No new picture for this long is a freeze that anybody sees, ms. */
const FREEZE_MS = 250;

/**
 * Plays `stream` (its URL up to the file name) for `seconds` and gives what the page's probe saw. `player` is one of measure.js's, or
 * "page" for the server's own player page; `file` is the playlist. `meanwhile` is called with the page once it is open, and may take its time.
 */
export async function play({ browser, pages, stream, player, file, seconds, config, meanwhile }) {
  const page = await browser.open({ viewport: { width: 1280, height: 900 } });
  const problems = [];
  page.on("pageerror", (error) => problems.push(`fatal ${error.message}`));
  try {
    if (player === "page") {
      await page.addInitScript({
        content: `${probe}
          addEventListener("DOMContentLoaded", () => {
            const probe = lhlsProbe(document.querySelector("video"));
            globalThis.report = () => ({ ...probe.report(), bandwidth: null, page: lhlsPage() });
          });`,
      });
      await page.goto(`${stream}/?mode=${file === "ll.m3u8" ? "ll" : "lhls"}`);
    } else {
      const query = new URLSearchParams({ player, src: `${stream}/${file}`, config: JSON.stringify(config ?? {}) });
      await page.goto(`${pages.url}/page/measure.html?${query}`);
    }
    await Promise.all([page.waitForTimeout(seconds * 1000), meanwhile?.(page)]);
    const report = await page.evaluate(() => globalThis.report());
    report.errors.push(...problems);
    return report;
  } finally {
    await page.close();
  }
}

/** What one page load comes to; pictures shown in the first `warmUp` seconds after the first are left out. Times in ms. */
export function summarize(report, warmUp) {
  const from = (report.firstPicture ?? Infinity) + warmUp * 1000;
  const frames = report.frames.filter(([shown]) => shown >= from);
  const sorted = frames.map(([, latency]) => latency).sort((a, b) => a - b);
  const freezes = [];
  for (let i = 1; i < frames.length; i++) {
    if (frames[i][0] - frames[i - 1][0] > FREEZE_MS) freezes.push([frames[i - 1][0], frames[i][0]]);
  }
  const frozen = freezes.reduce((sum, [start, end]) => sum + end - start, 0);
  const last = frames.at(-1);
  if (!last || report.duration - last[0] > 1000) freezes.push([last?.[0] ?? from, report.duration]);
  return {
    frames: frames.length,
    p50: quantile(sorted, 0.5),
    p95: quantile(sorted, 0.95),
    max: sorted.at(-1) ?? null,
    stalls: freezes.length,
    freezes,
    frozen,
    firstPicture: report.firstPicture,
    dropped: report.dropped,
    skipped: report.skipped,
    unread: report.unread + report.torn,
    fatal: report.errors.filter((error) => error.startsWith("fatal")),
    bandwidth: report.bandwidth,
    clockSkew: report.clockSkew,
  };
}

export function quantile(sorted, q) {
  return sorted.length ? sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] : null;
}

export function median(values) {
  return quantile(values.filter((value) => value !== null).sort((a, b) => a - b), 0.5);
}

/**
 * Watches how late this program's timers run, beside those of the page. Gives a function to call with a page's report: for the time from
 * `start` to `end` (ms since that page was opened), the most that either of them was late, ms.
 */
export function watchTimers() {
  const late = [];
  let due = Date.now() + 20;
  setInterval(() => {
    const now = Date.now();
    if (now - due >= 30) late.push([due, now - due]);
    due = now + 20;
  }, 20).unref();
  return (report, start, end) => {
    const own = late.map(([at, by]) => [at - report.origin, by]);
    const within = [...report.late, ...own].filter(([at, by]) => at < end && at + by > start);
    return Math.max(0, ...within.map(([, by]) => by));
  };
}
