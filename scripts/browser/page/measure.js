// Plays one URL in one player: ?player=hls.js|video.js|shaka|native&src=URL[&config=JSON].
// The players run with their default settings unless config says otherwise.
"use strict";

const query = new URLSearchParams(location.search);
const source = query.get("src");
const config = JSON.parse(query.get("config") || "{}");
const video = document.getElementById("video");
const probe = lhlsProbe(video);
let bandwidth = () => null;

function load(url) {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = url;
    script.onload = resolve;
    script.onerror = () => reject(new Error(`cannot load ${url}`));
    document.head.append(script);
  });
}

const players = {
  async "hls.js"() {
    await load("/modules/hls.js/dist/hls.min.js");
    const hls = new Hls(config);
    hls.on(Hls.Events.ERROR, (_, data) => probe.errors.push(`${data.fatal ? "fatal " : ""}${data.details}${data.reason || data.error ? ` (${data.reason ?? data.error.message})` : ""}`));
    hls.loadSource(source);
    hls.attachMedia(video);
    video.play().catch(() => {});
    bandwidth = () => hls.bandwidthEstimate;
  },
  async "video.js"() {
    await load("/modules/video.js/dist/video.min.js");
    video.classList.add("video-js");
    // Without this it would leave the stream to the browser's own player.
    const player = videojs(video, { html5: { vhs: { overrideNative: true, ...config } } });
    player.on("error", () => probe.errors.push(`fatal ${player.error() && player.error().message}`));
    player.src({ src: source, type: "application/vnd.apple.mpegurl" });
    player.play();
    bandwidth = () => player.tech({ IWillNotUseThisInPlugins: true }).vhs?.systemBandwidth ?? null;
  },
  async shaka() {
    await load("/modules/shaka-player/dist/shaka-player.compiled.js");
    shaka.polyfill.installAll();
    const player = new shaka.Player();
    await player.attach(video);
    player.configure(config);
    player.addEventListener("error", ({ detail }) => probe.errors.push(`${detail.severity === 2 ? "fatal " : ""}shaka ${detail.code}`));
    bandwidth = () => player.getStats().estimatedBandwidth;
    await player.load(source);
    video.play().catch(() => {});
  },
  async native() {
    // The pictures of another origin can be read only if asked for so.
    video.crossOrigin = "anonymous";
    video.src = source;
    video.play().catch(() => {});
  },
};

players[query.get("player")]().catch((error) => probe.errors.push(`fatal ${error.message || "error"} ${error.code || ""}`));

globalThis.report = () => ({ ...probe.report(), bandwidth: bandwidth() });
