// Plays one URL in one player and notes every picture that was shown: when, and when it had been drawn.
// ?player=hls.js|video.js|shaka|native&src=URL[&config=JSON]. The players run with their default settings unless config says otherwise.
"use strict";

const query = new URLSearchParams(location.search);
const player = query.get("player");
const source = query.get("src");
const config = JSON.parse(query.get("config") || "{}");
const video = document.getElementById("video");

const result = {
  // [shown at (ms since page open), latency (ms), media time (s)]
  frames: [],
  unread: 0,
  skipped: 0,
  torn: 0,
  waits: [],
  errors: [],
  firstPicture: null,
};

const reader = new lhlsCells.CellReader();
let presented = 0;

function onFrame(_, frame) {
  video.requestVideoFrameCallback(onFrame);
  const shown = frame.expectedDisplayTime;
  if (result.firstPicture === null) result.firstPicture = shown;
  if (presented && frame.presentedFrames > presented + 1) result.skipped += frame.presentedFrames - presented - 1;
  presented = frame.presentedFrames;
  // By the time the callback runs the element may hold a later picture than the one it is about.
  let picture;
  try {
    picture = new VideoFrame(video);
  } catch {
    result.unread++;
    return;
  }
  const torn = Math.abs(picture.timestamp / 1e6 - frame.mediaTime) > 0.002;
  const drawn = reader.read(picture, picture.displayWidth, picture.displayHeight);
  picture.close();
  if (torn) result.torn++;
  else if (drawn === null) result.unread++;
  else result.frames.push([shown, performance.timeOrigin + shown - drawn, frame.mediaTime]);
}
video.requestVideoFrameCallback(onFrame);
video.addEventListener("waiting", () => result.waits.push(performance.now()));
video.addEventListener("error", () => result.errors.push(`media error ${video.error && video.error.code}: ${video.error && video.error.message}`));

function load(url) {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = url;
    script.onload = resolve;
    script.onerror = () => reject(new Error(`cannot load ${url}`));
    document.head.append(script);
  });
}

let bandwidth = () => null;
let extra = () => ({});

const start = {
  async "hls.js"() {
    await load("/modules/hls.js/dist/hls.min.js");
    const hls = new Hls(config);
    hls.on(Hls.Events.ERROR, (_, data) => result.errors.push(`${data.fatal ? "fatal " : ""}${data.details}`));
    hls.loadSource(source);
    hls.attachMedia(video);
    video.play().catch(() => {});
    bandwidth = () => hls.bandwidthEstimate;
    extra = () => ({ latency: hls.latency, target: hls.targetLatency });
  },
  async "video.js"() {
    await load("/modules/video.js/dist/video.min.js");
    video.classList.add("video-js");
    const vhs = videojs(video, { html5: { vhs: { overrideNative: true, ...config } } });
    vhs.src({ src: source, type: "application/vnd.apple.mpegurl" });
    vhs.on("error", () => result.errors.push(`fatal ${vhs.error() && vhs.error().message}`));
    vhs.play();
    bandwidth = () => vhs.tech({ IWillNotUseThisInPlugins: true }).vhs?.systemBandwidth ?? null;
  },
  async shaka() {
    await load("/modules/shaka-player/dist/shaka-player.compiled.js");
    shaka.polyfill.installAll();
    const instance = new shaka.Player();
    await instance.attach(video);
    instance.configure(config);
    instance.addEventListener("error", (event) => result.errors.push(`shaka ${event.detail.severity === 2 ? "fatal " : ""}${event.detail.code}`));
    bandwidth = () => instance.getStats().estimatedBandwidth;
    await instance.load(source);
    video.play().catch(() => {});
  },
  async native() {
    video.src = source;
    video.play().catch(() => {});
  },
};

start[player]().catch((error) => result.errors.push(`fatal ${error.message || error} ${error.code || ""}`));

/** Everything measured so far; asked for by the script that opened the page. */
globalThis.report = () => {
  const quality = video.getVideoPlaybackQuality();
  return {
    ...result,
    duration: performance.now(),
    dropped: quality.droppedVideoFrames,
    decoded: quality.totalVideoFrames,
    bandwidth: bandwidth(),
    buffered: video.buffered.length ? video.buffered.end(video.buffered.length - 1) - video.currentTime : 0,
    // How far the two clocks of the page have drifted apart; the latency is on the first.
    clockSkew: performance.timeOrigin + performance.now() - Date.now(),
    ...extra(),
  };
};
