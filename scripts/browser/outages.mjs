// What unmodified hls.js does when the publisher, or the server, goes and comes back. scripts/browser/outages calls it.
//
// For each outage and playlist one page load: plays, breaks, mends, and says whether pictures move again without a reload of the page, how
// long none did, and the latency before and after. Ends with 1 if one did not come back.

import { spawn } from "node:child_process";

import { median, play } from "./measure.mjs";
import { binary, publish, servePages, startBrowser, startServer, withCleanup } from "./rig.mjs";

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const BREAK_AT_S = 8, AFTER_S = 14;
// How long the breaking and mending takes at the most, where that is not eight seconds.
const LASTS_S = { "killed for 3 s, five times": 60, "killed for 5 s, twenty times, with 48 others watching": 230 };

/** Viewers without a browser, all counted together: what they have seen, and missed, after `seconds`. */
function others(viewers, url, seconds) {
  const watching = spawn(binary, ["latency", url, "--viewers", String(viewers), "--no-decode", "--json", "--duration", `${seconds}s`]);
  let output = "";
  watching.stdout.on("data", (data) => (output += data));
  return new Promise((resolve) =>
    watching.on("exit", (code) => {
      if (code) return resolve(`${url}: exit ${code}`);
      const { playing, pictures, stalls, gaps, http, failures, errors } = JSON.parse(output);
      resolve(`${url}: ${JSON.stringify({ viewers, playing, pictures, stalls, gaps, http, failures, errors })}`);
    }),
  );
}

const outages = {
  async "killed for 5 s, and back"(state) {
    state.publisher.process.child.kill("SIGKILL");
    await pause(5000);
    state.publisher = await publish(state.server, "live/test", [], false);
    return 5;
  },
  async "killed for 3 s, five times"(state) {
    for (let times = 0; times < 5; times++) {
      if (times) await pause(8000);
      state.publisher.process.child.kill("SIGKILL");
      await pause(3000);
      state.publisher = await publish(state.server, "live/test", [], false);
    }
    return 3;
  },
  async "killed for 5 s, twenty times, with 48 others watching"(state) {
    const watching = ["playlist.m3u8", "ll.m3u8"].map((file) => others(24, `${state.server.url}/live/test/${file}`, 222));
    for (let times = 0; times < 20; times++) {
      await pause(6000);
      state.publisher.process.child.kill("SIGKILL");
      await pause(5000);
      state.publisher = await publish(state.server, "live/test", [], false);
    }
    for (const seen of await Promise.all(watching)) console.log(seen);
    return 5;
  },
  async "killed, and back with another resolution"(state) {
    state.publisher.process.child.kill("SIGKILL");
    await pause(2000);
    state.publisher = await publish(state.server, "live/test", ["--size", "480x270"], false);
    return 2;
  },
  async "taken over by another publisher"(state) {
    state.publisher = await publish(state.server, "live/test", [], false);
    return 0;
  },
  async "silent for 2.7 s"(state) {
    state.publisher.process.child.kill("SIGSTOP");
    await pause(2700);
    state.publisher.process.child.kill("SIGCONT");
    return 2.7;
  },
  async "server killed and started again"(state) {
    const port = (url) => new URL(url).host;
    state.server.process.child.kill("SIGKILL");
    state.publisher.process.child.kill("SIGKILL");
    const server = await startServer([], { rtmp: port(state.server.rtmp.replace("rtmp:", "http:")), http: port(state.server.url) });
    state.server = server;
    await pause(1000);
    state.publisher = await publish(server, "live/test", [], false);
    return 1.5;
  },
};

const wanted = process.argv.slice(2);
let failed = 0;
await withCleanup(async (keep) => {
  const browser = keep(await startBrowser());
  const pages = keep(await servePages());
  for (const [name, outage] of Object.entries(outages)) {
    if (wanted.length && !wanted.some((part) => name.includes(part))) continue;
    for (const file of (process.env.FILES ?? "playlist.m3u8,ll.m3u8").split(",")) {
      const state = { server: await startServer() };
      try {
        state.publisher = await publish(state.server, "live/test");
        const watching = play({ browser, pages, stream: `${state.server.url}/live/test`, player: "hls.js", file, seconds: BREAK_AT_S + (LASTS_S[name] ?? 8) + AFTER_S });
        await pause(BREAK_AT_S * 1000);
        const seconds = await outage(state);
        const report = await watching;
        const frames = report.frames;
        const latency = (part) => median(part.map(([, value]) => value));
        // What a hole takes beyond the time without new pictures at the publisher, whose start takes a while, remains as latency.
        let hole = 0, cost = 0;
        for (let i = 1; i < frames.length; i++) {
          const shown = frames[i][0] - frames[i - 1][0], sent = shown - (frames[i][1] - frames[i - 1][1]);
          hole = Math.max(hole, shown);
          if (shown > 1000) cost = Math.max(cost, shown - sent);
        }
        if (process.env.VERBOSE) {
          for (let i = 1; i < frames.length; i++) {
            const shown = frames[i][0] - frames[i - 1][0], sent = shown - (frames[i][1] - frames[i - 1][1]);
            if (shown > 150 || sent > 150) console.log(`at ${frames[i - 1][0] | 0}: nothing shown for ${shown | 0} ms, nothing sent for ${sent | 0} ms, latency ${frames[i - 1][1] | 0}, then ${frames[i][1] | 0}`);
          }
        }
        const before = frames.filter(([at]) => at > 4000 && at < BREAK_AT_S * 1000 - 500);
        const after = frames.filter(([at]) => at > report.duration - 4000);
        const back = after.length > 60;
        failed += !back;
        const fatal = report.errors.filter((error) => error.startsWith("fatal") || process.env.VERBOSE);
        console.log(
          `${back ? "ok  " : "GONE"} ${file.padEnd(14)} ${name}: nothing new for ${(hole / 1000).toFixed(1)} s of an outage of ${seconds} s, at most ${(cost / 1000).toFixed(1)} s longer than nothing was sent; ` +
            `${Math.round(latency(before))} ms before, ${back ? Math.round(latency(after)) : "-"} ms after${fatal.length ? `; ${fatal.join(", ")}` : ""}`,
        );
      } finally {
        await state.publisher?.stop().catch(() => {});
        await state.server.stop().catch(() => {});
      }
    }
  }
});
process.exit(failed ? 1 : 0);
