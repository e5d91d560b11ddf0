// Whether players stay where they are: latency minute by minute, beside it the same of a stream whose sound card runs at 47 990 instead of
// 48 000 samples a second, and how far sound and picture of that are apart. scripts/browser/drift calls it. Arguments: minutes (10), and parts of the names of what is to be played (all, at the same time).

import { execFileSync } from "node:child_process";
import os from "node:os";
import { median, play, summarize } from "./measure.mjs";
import { publish, servePages, startBrowser, startServer, withCleanup } from "./rig.mjs";

const [minutes = 10, ...wanted] = process.argv.slice(2).map((argument, i) => (i ? argument : Number(argument)));
const PLAYS = [
  { player: "hls.js", file: "ll.m3u8", name: "live/true" },
  { player: "hls.js", file: "ll.m3u8", name: "live/slow" },
  { player: "page", file: "playlist.m3u8", name: "live/slow" },
].filter((play) => !wanted.length || wanted.some((part) => Object.values(play).join(" ").includes(part)));
const STREAMS = { "live/true": [], "live/slow": ["--sound-rate", "47990"] };

/** By how much the sound of the newest complete segment ends before its pictures do, ms. */
async function apart(stream) {
  const text = async (url) => (await fetch(url)).text();
  const multivariant = `${stream}/playlist.m3u8`;
  const first = (playlist) => playlist.split("\n").find((line) => line && !line.startsWith("#"));
  const media = new URL(first(await text(multivariant)), multivariant);
  const segment = new URL(first(await text(media)), media).href;
  const packets = execFileSync("ffprobe", ["-v", "error", "-show_entries", "packet=codec_type,pts_time", "-of", "csv=p=0", segment], { encoding: "utf8" });
  const last = (type) => Math.max(...packets.split("\n").map((line) => line.split(",")).filter(([kind]) => kind === type).map(([, pts]) => Number(pts)));
  return Math.round(1000 * (last("video") - last("audio")));
}

await withCleanup(async (keep) => {
  const server = keep(await startServer());
  const sound = {};
  for (const name of new Set(PLAYS.map((play) => play.name))) {
    keep(await publish(server, name, STREAMS[name]));
    sound[name] = [];
  }
  const pages = keep(await servePages());
  const browser = keep(await startBrowser());
  const look = async () => {
    for (const name of Object.keys(sound)) for (let i = 0; i < 5; i++) sound[name].push(await apart(`${server.url}/${name}`));
  };
  await new Promise((resolve) => setTimeout(resolve, 3000));
  await look();
  const reports = await Promise.all(PLAYS.map(({ player, file, name }) => play({ browser, pages, stream: `${server.url}/${name}`, player, file, seconds: minutes * 60 + 5 })));
  await look();
  PLAYS.forEach(({ player, file, name }, i) => {
    const [report, summary] = [reports[i], summarize(reports[i], 5)];
    const by = [];
    for (let minute = 0; minute < minutes; minute++) {
      const from = report.firstPicture + 5000 + minute * 60_000;
      by.push(median(report.frames.filter(([shown]) => shown >= from && shown < from + 60_000).map(([, latency]) => latency)));
    }
    console.log(`${player} ${file} ${name}: median by the minute ${by.map((value) => Math.round(value ?? NaN)).join(" ")} ms, ${summary.stalls} stalls, ${summary.frames} pictures`);
  });
  for (const [name, values] of Object.entries(sound)) {
    console.log(`${name}: the sound of a segment ends before its pictures by ${values.slice(0, 5).join(" ")} ms at the start, ${values.slice(5).join(" ")} ms at the end`);
  }
  console.log(`Load average at the end: ${os.loadavg().map((value) => value.toFixed(1)).join(" ")}`);
});
process.exit(0);
