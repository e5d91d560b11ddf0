// What the browser tests and scripts/latency have in common: a server, a publisher, a file server for the pages, and a browser.
// Everything listens on 127.0.0.1 on free ports, and everything started here is ended by close().

import { execFileSync, spawn } from "node:child_process";
import { createReadStream, existsSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { createServer as createTcpServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
export const root = join(here, "../..");
const cache = process.env.LHLS_BROWSER_CACHE ?? fail("LHLS_BROWSER_CACHE is not set; run scripts/latency or scripts/browser/test, which set it");
const { chromium } = createRequire(join(cache, "package.json"))("playwright-core");

function fail(text) {
  console.error(text);
  process.exit(2);
}

/** A port that nothing listens on. */
export function freePort() {
  return new Promise((resolve, reject) => {
    const probe = createTcpServer();
    probe.on("error", reject);
    probe.listen(0, "127.0.0.1", () => {
      const { port } = probe.address();
      probe.close(() => resolve(port));
    });
  });
}

/** Waits until `condition` gives something, at most `seconds`. */
export async function until(condition, seconds, what) {
  const deadline = Date.now() + seconds * 1000;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`waited ${seconds} s in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

class Process {
  constructor(program, args) {
    this.name = [program.split("/").pop(), args[0]].join(" ");
    this.output = "";
    this.child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
    const keep = (data) => (this.output = (this.output + data).slice(-20_000));
    this.child.stdout.on("data", keep);
    this.child.stderr.on("data", keep);
    this.child.on("error", (error) => keep(String(error)));
    this.ended = new Promise((resolve) => this.child.on("close", resolve));
  }

  alive() {
    return this.child.exitCode === null && this.child.signalCode === null && this.child.pid !== undefined;
  }

  async stop() {
    if (!this.alive()) return;
    this.child.kill("SIGTERM");
    const force = setTimeout(() => this.child.kill("SIGKILL"), 8000);
    await this.ended;
    clearTimeout(force);
  }
}

/** The program under test: LHLS_BINARY, or the release build. */
export const binary = process.env.LHLS_BINARY ?? join(root, "target/release/lhls");

/** A server on free ports, or on these addresses; with `tls`, it has HTTPS as well, whose certificate nobody vouches for. */
export async function startServer(options = [], at = {}) {
  if (!existsSync(binary)) fail(`${binary} is not there; build it with cargo build --release, or set LHLS_BINARY`);
  const rtmp = at.rtmp ?? `127.0.0.1:${await freePort()}`;
  const http = at.http ?? `127.0.0.1:${await freePort()}`;
  const secure = at.tls ? `127.0.0.1:${await freePort()}` : undefined;
  const tls = secure ? ["--https-listen", secure, ...certificate()] : [];
  const process_ = new Process(binary, ["serve", "--rtmp-listen", rtmp, "--http-listen", http, ...tls, ...options]);
  const url = `http://${http}`;
  await until(async () => {
    if (!process_.alive()) throw new Error(`the server ended:\n${process_.output}`);
    return fetch(`${url}/healthz`).then((response) => response.ok, () => false);
  }, 10, "the server");
  const secureUrl = secure && `https://${secure}`;
  return { url, secureUrl, rtmp: `rtmp://${rtmp}`, process: process_, stop: () => process_.stop() };
}

/** Options that name a new certificate and its key. */
function certificate() {
  const folder = mkdtempSync(join(tmpdir(), "lhls-tls-"));
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
  const [cert, key] = ["cert.pem", "key.pem"].map((name) => join(folder, name));
  execFileSync("openssl", [
    ..."req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost".split(" "),
    "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", key, "-out", cert,
  ], { stdio: "ignore" });
  return ["--tls-cert", cert, "--tls-key", key];
}

/** The test signal, published to `server` as `name`. Waits until it can be played, unless told not to. */
export async function publish(server, name, options = [], wait = true) {
  const program = process.env.LHLS_PUBLISHER ?? binary;
  const process_ = new Process(program, ["publish-test", `${server.rtmp}/${name}`, ...options]);
  if (wait) {
    await until(async () => {
      if (!process_.alive()) throw new Error(`the publisher ended:\n${process_.output}`);
      return fetch(`${server.url}/${name}/playlist.m3u8`).then((response) => response.ok, () => false);
    }, 20, "the stream");
  }
  return { process: process_, stop: () => process_.stop() };
}

/** Serves the measuring page, the page's scripts and the npm packages. */
export async function servePages() {
  const folders = { page: join(here, "page"), web: join(root, "src/web"), modules: join(cache, "node_modules") };
  const types = { ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css" };
  const server = createServer((request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url, "http://x").pathname));
    const [, folder, ...rest] = path.split("/");
    const file = folders[folder] && join(folders[folder], ...rest);
    if (!file || !existsSync(file)) {
      response.writeHead(404).end();
      return;
    }
    response.writeHead(200, { "content-type": types[extname(file)] ?? "application/octet-stream" });
    createReadStream(file).pipe(response);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    stop: () => new Promise((resolve) => { server.closeAllConnections(); server.close(resolve); }),
  };
}

/** Headless Chromium with what measuring needs. */
export async function startBrowser() {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    args: [
      "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required",
      // In containers shared memory is mostly too small.
      "--disable-dev-shm-usage",
      // The pages and the streams come from different ports of this machine.
      "--disable-features=LocalNetworkAccessChecks",
      // Certificates are made for the occasion.
      "--ignore-certificate-errors",
    ],
  });
  return {
    open: (options) => browser.newPage(options),
    /** Stops all that pages do, for so many ms: as on a computer that has no time for them. */
    async pausePages(ms) {
      const { processInfo } = await (await browser.newBrowserCDPSession()).send("SystemInfo.getProcessInfo");
      const pages = processInfo.filter(({ type }) => type === "renderer").map(({ id }) => id);
      for (const pid of pages) process.kill(pid, "SIGSTOP");
      await new Promise((resolve) => setTimeout(resolve, ms));
      for (const pid of pages) process.kill(pid, "SIGCONT");
    },
    version: browser.version(),
    stop: () => browser.close(),
  };
}

/** Runs `body` with a list onto which it puts what has to be stopped, and stops it whatever happens. */
export async function withCleanup(body) {
  const started = [];
  const stopAll = async () => {
    for (const thing of started.splice(0).reverse()) await thing.stop().catch(() => {});
  };
  for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => stopAll().finally(() => process.exit(130)));
  try {
    return await body((thing) => (started.push(thing), thing));
  } finally {
    await stopAll();
  }
}
