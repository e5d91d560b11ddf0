// The status page in a browser: what it shows of no stream, one, and twelve; what it says of a stream with every fault; who gets in.
// scripts/browser/status calls it. Says what it tests and what came out, one line each; ends with 1 if something failed.

import { spawn } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { freePort, publish, root, startBrowser, startServer, until, withCleanup } from "./rig.mjs";

const shots = join(root, "target/screenshots");
const picture = process.argv[2] === "--picture" ? process.argv[3] : null;
const TOKEN = "0123456789abcdef0123456789abcdef";
const VIEWS = {
  desktop: { viewport: { width: 1280, height: 900 } },
  dark: { viewport: { width: 1280, height: 900 }, colorScheme: "dark" },
  phone: { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true },
};
// What an encoder may call itself.
const EVIL = "<img src=x onerror=document.title=1>&amp;'\"";

function check(condition, text) {
  if (!condition) throw new Error(text);
}

/** A publisher made of ffmpeg's test picture, with these options of the encoder. */
function ffmpeg(server, name, options) {
  const inputs = ["-f", "lavfi", "-i", "testsrc2=size=640x360:rate=30"];
  const child = spawn("ffmpeg", ["-v", "error", "-re", ...inputs, "-c:v", "libx264", "-preset", "ultrafast", ...options, "-f", "flv", `${server.rtmp}/${name}`], { stdio: "ignore" });
  const ended = new Promise((resolve) => child.on("close", resolve));
  return { stop: () => (child.kill("SIGKILL"), ended) };
}

/** Opens the page and waits until it has seen the API this often. */
async function open(browser, url, options, refreshes = 2) {
  const page = await browser.open(options);
  const problems = [];
  page.on("pageerror", (error) => problems.push(error.message));
  page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
  await page.goto(url);
  await until(() => page.evaluate((n) => Number(document.body.dataset.refreshed ?? 0) >= n, refreshes), 30, "the page to refresh");
  return { page, problems };
}

/** Looks at the page in every view, all at once since it refreshes every few seconds, and checks what holds of all of them. */
async function look(browser, url, name) {
  mkdirSync(shots, { recursive: true });
  await Promise.all(Object.entries(VIEWS).map(async ([view, options]) => {
    const { page, problems } = await open(browser, url, options);
    try {
      check(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${view}: the page is wider than the screen`);
      await page.screenshot({ path: join(shots, `status-${name}-${view}.png`), fullPage: true });
      check(!problems.length, `${view}: ${problems.join(", ")}`);
    } finally {
      await page.close();
    }
  }));
}

const cards = (page) => page.locator("article.card").count();

const tests = {
  async "no stream: the page says how to publish"({ browser, server }) {
    await look(browser, `${server.url}/status`, "0");
    const { page } = await open(browser, `${server.url}/status`);
    check(await page.locator("#none").isVisible(), "nothing is said");
    check((await page.locator("#state").textContent()) === "Up", "the server is not up");
    await page.close();
  },

  async "one stream: its figures are there, and its page is a link away"({ browser, server, keep }) {
    keep(await publish(server, "live/one"));
    await new Promise((resolve) => setTimeout(resolve, 15_000));
    await look(browser, `${server.url}/status`, "1");
    const { page } = await open(browser, `${server.url}/status`);
    check((await cards(page)) === 1, "there is not one card");
    const values = await page.locator(".spark dd").allTextContents();
    check(/b\/s$/.test(values[0]) && Number(values[1]) > 1 && / s$/.test(values[2]), `odd figures: ${values.join(", ")}`);
    check((await page.locator(".spark .line").first().getAttribute("d")).length > 50, "the line is not drawn");
    // By keyboard: to the stream's page and back, and the details open and stay open.
    await page.locator("summary").focus();
    await page.keyboard.press("Enter");
    const seen = Number(await page.evaluate(() => document.body.dataset.refreshed));
    await until(() => page.evaluate((n) => Number(document.body.dataset.refreshed) > n + 1, seen), 20, "refreshes");
    check(await page.locator("details").evaluate((details) => details.open), "the details have closed");
    check(await page.locator("summary").evaluate((summary) => summary === document.activeElement), "the focus is lost");
    check(!(await page.locator("details .operator").isVisible()), "a reader is offered what only operators may do");
    await page.keyboard.press("Shift+Tab");
    await page.keyboard.press("Enter");
    await page.waitForURL(`${server.url}/live/one/`);
    await page.close();
    return values.join(", ");
  },

  async "a stream with faults: each is named, with what to set"({ browser, server, keep }) {
    keep(ffmpeg(server, "live/faults", ["-g", "120", "-bf", "2", "-pix_fmt", "yuv444p", "-rtmp_flashver", EVIL]));
    await until(async () => {
      const { warnings } = await (await fetch(`${server.url}/api/v1/streams/live/faults`)).json();
      const codes = (warnings ?? []).map((warning) => warning.code);
      return ["chroma", "long_gop", "b_frames", "no_audio"].every((code) => codes.includes(code));
    }, 60, "the warnings");
    await look(browser, `${server.url}/status`, "faults");
    const { page } = await open(browser, `${server.url}/status`);
    const card = page.locator("article.card", { hasText: "live/faults" });
    const text = await card.textContent();
    for (const setting of ["Color Format", "Keyframe Interval", "Tune zerolatency", "Audio Track"]) {
      check(text.includes(setting), `${setting} is not named`);
    }
    check(text.includes("<img src=x") && (await page.locator("img").count()) === 0, "the encoder's name is not shown as it is");
    check((await page.title()) === "Status", "the encoder's name was run");
    await page.locator("#problem-list a", { hasText: "live/faults" }).click();
    check(await card.locator("h2").evaluate((title) => title === document.activeElement), "the link does not lead there");
    await page.close();
  },

  async "twelve streams"({ browser, server, keep }) {
    for (let i = 1; i <= 10; i++) {
      keep(await publish(server, `live/studio-${String(i).padStart(2, "0")}`, ["--size", "320x180", "--fps", "15", "--bitrate", "200"], false));
    }
    await until(async () => {
      const { streams } = await (await fetch(`${server.url}/api/v1/streams`)).json();
      return streams.length === 12 && streams.every((stream) => stream.state === "live");
    }, 60, "twelve streams");
    await new Promise((resolve) => setTimeout(resolve, 8000));
    await look(browser, `${server.url}/status`, "12");
    const { page } = await open(browser, `${server.url}/status`);
    check((await cards(page)) === 12, "there are not twelve cards");
    await page.close();
  },

  async "with a token: nobody gets in without, and an operator ends a stream"({ browser, keep }) {
    const admin = `127.0.0.1:${await freePort()}`;
    const server = keep(await startServer(["--admin-listen", admin, "--admin-token", TOKEN]));
    keep(await publish(server, "live/secret"));
    const url = `http://${admin}/status`;
    for (const credentials of [undefined, { username: "x", password: "wrong" }]) {
      const page = await browser.open({ httpCredentials: credentials });
      const answer = await page.goto(url).catch(() => null);
      check(!answer || answer.status() === 401, `${answer?.status()} without the token`);
      await page.close();
    }
    check((await fetch(`${server.url}/status`)).status === 404, "the page is on the viewers' port");
    const { page, problems } = await open(browser, url, { httpCredentials: { username: "operator", password: TOKEN } });
    await page.locator("summary").click();
    await page.getByRole("button").click();
    await page.getByRole("button", { name: "Really end it" }).click();
    await until(async () => (await page.locator(".badge").textContent()) === "Over", 10, "the stream to be over");
    const runs = await page.locator(".runs tbody").textContent();
    check(runs.includes("ended by an operator"), `the run's end is told as ${runs}`);
    check(!problems.length, problems.join(", "));
    await page.close();
  },

  async "a server that has gone is said to be"({ browser, keep }) {
    const server = keep(await startServer());
    const { page } = await open(browser, `${server.url}/status`);
    await server.stop();
    await until(async () => (await page.locator("#state").textContent()) === "Not reached", 15, "the page to notice");
    await page.close();
  },
};

/** A picture for the documentation: a stream that does well, one that does not, and one that waits. */
async function draw(browser, keep, file) {
  const server = keep(await startServer());
  keep(await publish(server, "live/concert"));
  keep(ffmpeg(server, "live/lecture", ["-g", "240", "-bf", "2", "-pix_fmt", "yuv420p", "-b:v", "900k", "-maxrate", "900k", "-bufsize", "900k"]));
  const viewers = ["concert", "concert", "lecture"].map((name) => {
    const child = spawn(process.env.LHLS_PUBLISHER ?? join(root, "target/release/lhls"), ["latency", `${server.url}/live/${name}/playlist.m3u8?wait=20`, "--duration", "90s", "--no-decode"], { stdio: "ignore" });
    return keep({ stop: async () => child.kill() });
  });
  await new Promise((resolve) => setTimeout(resolve, 65_000));
  const { page } = await open(browser, `${server.url}/status`, { viewport: { width: 1200, height: 700 } }, 3);
  await page.screenshot({ path: file, fullPage: true });
  await page.close();
  return `${file}, with ${viewers.length} viewers`;
}

let failed = 0;
await withCleanup(async (keep) => {
  const browser = keep(await startBrowser());
  if (picture) {
    console.log(await draw(browser, keep, picture));
    return;
  }
  const world = { browser, keep, server: keep(await startServer()) };
  for (const [name, run] of Object.entries(tests)) {
    try {
      const result = await run(world);
      console.log(`ok     ${name}${result ? `: ${result}` : ""}`);
    } catch (error) {
      failed++;
      console.log(`FAILED ${name}: ${error.message}`);
    }
  }
});
process.exitCode = failed ? 1 : 0;
