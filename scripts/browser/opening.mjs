// How soon the player page shows a picture: opened at random moments of a running stream, and open already when the stream begins.
// scripts/browser/opening calls it. Arguments: how many times each (10; of the latter half as many), and which ways of playing (lhls,ll).

import { median, play } from "./measure.mjs";
import { publish, servePages, startBrowser, startServer, until, withCleanup } from "./rig.mjs";

const [times = "10", modes = "lhls,ll"] = process.argv.slice(2);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const list = (values) => `median ${Math.round(median(values))} ms, worst ${Math.round(Math.max(...values))} ms of ${values.map(Math.round).join(" ")}`;

await withCleanup(async (keep) => {
  const server = keep(await startServer());
  keep(await publish(server, "live/test"));
  const pages = keep(await servePages());
  const browser = keep(await startBrowser());
  // A browser that has just started is slow with everything.
  await play({ browser, pages, stream: `${server.url}/live/test`, player: "page", file: "playlist.m3u8", seconds: 3 });

  for (const mode of modes.split(",")) {
    const file = mode === "ll" ? "ll.m3u8" : "playlist.m3u8";
    const first = [];
    for (let i = 0; i < Number(times); i++) {
      await pause(Math.random() * 1000);
      const report = await play({ browser, pages, stream: `${server.url}/live/test`, player: "page", file, seconds: 2.5 });
      first.push(report.firstPicture ?? Infinity);
    }
    console.log(`${mode}, a running stream, from opening the page to the first picture: ${list(first)}`);
  }

  for (const mode of modes.split(",")) {
    const file = mode === "ll" ? "ll.m3u8" : "playlist.m3u8";
    const first = [];
    for (let i = 0; i < Number(times) / 2; i++) {
      const name = `live/${mode}-${i}`;
      let publisher, started;
      const meanwhile = async (page) => {
        await until(() => page.evaluate(() => lhlsPage().state === "waiting"), 5, "the page to wait");
        await pause(500 + Math.random() * 1000);
        started = Date.now();
        publisher = await publish(server, name, [], false);
      };
      try {
        const report = await play({ browser, pages, stream: `${server.url}/${name}`, player: "page", file, seconds: 6, meanwhile });
        first.push(report.origin + (report.firstPicture ?? Infinity) - started);
      } finally {
        await publisher?.stop();
      }
    }
    console.log(`${mode}, a stream that begins, from the start of its publisher to the first picture: ${list(first)}`);
  }
});
process.exit(0);
