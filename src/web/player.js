// The player page: shows what the engine plays, and how late. Nothing here is needed for playing.
"use strict";

(function () {
  const $ = (id) => document.getElementById(id);
  const video = $("video");
  const base = new URL(document.body.dataset.base ? `${document.body.dataset.base}/` : "./", location.href);
  const root = new URL(document.body.dataset.root || "./", location.href);
  const query = new URLSearchParams(location.search);

  const graph = new LhlsGraph($("graph"));
  const reader = new lhlsCells.CellReader();
  const engine = new LhlsEngine(video, base, { state: showState, log });
  const supported = LhlsEngine.modes();
  const opened = { at: 0, mode: null };

  // Latency of the last shown picture by either way of knowing it, ms.
  const now = { cells: null, program: null };
  // [at, latency] of the last seconds, for the median.
  let recent = [];
  let misses = 0;
  let pictures = 0;
  let first = null;
  let stallsSeen = 0;
  let graphed = 0;
  let furnished = false;

  // ---- what is shown of every picture

  function onPicture(_, frame) {
    video.requestVideoFrameCallback(onPicture);
    engine.picture();
    const shown = frame.expectedDisplayTime;
    if (first === null) {
      first = shown - opened.at;
      $("first").textContent = duration(first);
      furnish();
    }
    const program = engine.programTime(frame.mediaTime);
    now.program = program === null ? null : engine.serverTime(shown) - program;
    now.cells = readCells(shown, frame);
    const latency = now.cells ?? now.program;
    if (latency === null) return;
    recent.push([shown, latency]);
    if (shown - graphed > 100) {
      graphed = shown;
      graph.add(shown, latency);
    }
  }

  /** Latency by the picture's own clock. Every picture is looked at while they carry one, else one a second. */
  function readCells(shown, frame) {
    pictures++;
    if (misses > 10 && pictures % 30) return null;
    const drawn = reader.read(video, frame.width || video.videoWidth, frame.height || video.videoHeight);
    misses = drawn === null ? misses + 1 : 0;
    // The publisher's clock is taken to be right; if it runs on the server's machine it is the same clock.
    if (drawn !== null) return engine.serverTime(shown) - drawn;
    return misses > 10 ? null : now.cells;
  }

  // ---- what is shown a few times a second

  function refresh() {
    const at = performance.now();
    recent = recent.filter(([time]) => time > at - 10_000);
    const latest = recent.at(-1);
    const fresh = latest && at - latest[0] < 2000;
    $("latency").textContent = fresh ? duration(latest[1]) : "–";
    const sorted = recent.map(([, latency]) => latency).sort((a, b) => a - b);
    $("median").textContent = sorted.length ? duration(sorted[sorted.length >> 1]) : "–";
    $("program").textContent = fresh && now.program !== null ? duration(now.program) : "–";
    $("source").textContent =
      now.cells !== null ? "Glass to glass: from the clock in the picture to this screen"
      : now.program !== null ? "Server to screen: from the stream’s date and time to this screen"
      : "Latency: this player does not tell, and the picture carries no clock";

    const { buffered, currentTime } = video;
    const ahead = buffered.length ? buffered.end(buffered.length - 1) - currentTime : 0;
    $("buffer").textContent = duration(Math.max(0, ahead) * 1000);
    const stalls = engine.native ? nativeStalls : engine.allStalls;
    if (stalls > stallsSeen) graph.mark(at);
    stallsSeen = stalls;
    $("stalls").textContent = stalls;
    $("stalls").classList.toggle("bad", stalls > 0);
    const quality = video.getVideoPlaybackQuality ? video.getVideoPlaybackQuality() : null;
    $("dropped").textContent = quality ? quality.droppedVideoFrames : "–";
    $("rate").textContent = `${video.playbackRate.toFixed(2)}×`;
    $("rendition").textContent = rendition();
    graph.draw(at);
    const text = sorted.length ? `Latency over the last minute, now about ${duration(sorted[sorted.length >> 1])}` : "Latency over the last minute";
    $("graph").setAttribute("aria-label", text);
  }

  function rendition() {
    const level = engine.hls && engine.hls.levels[engine.hls.currentLevel];
    const size = video.videoWidth ? `${video.videoWidth}×${video.videoHeight}` : "–";
    const rate = level && level.bitrate ? `, ${(level.bitrate / 1e6).toFixed(1)} Mb/s` : "";
    return size + rate;
  }

  function duration(ms) {
    return ms < 9995 ? `${(ms / 1000).toFixed(2)} s` : `${(ms / 1000).toFixed(1)} s`;
  }

  let nativeStalls = 0;
  video.addEventListener("waiting", () => {
    if (engine.native && engine.shown && !video.seeking) nativeStalls++;
  });

  function showState(name, why) {
    document.body.dataset.state = name;
    const waiting = name === "waiting";
    $("state").textContent = { waiting: "Waiting", loading: "Loading", playing: "Live" }[name];
    $("overlay").hidden = !waiting;
    $("overlay").textContent = waiting ? `${sentence(why)}. Playing starts by itself when it is live.` : "";
    if (waiting) {
      recent = [];
      now.cells = now.program = null;
    }
  }

  function sentence(text) {
    return text.charAt(0).toUpperCase() + text.slice(1);
  }

  function log(text) {
    const entry = document.createElement("li");
    entry.textContent = `${new Date().toLocaleTimeString()} ${text}`;
    $("log").prepend(entry);
    while ($("log").childElementCount > 50) $("log").lastChild.remove();
  }

  function tickClock() {
    $("clock").textContent = new Date(engine.serverTime()).toISOString().slice(11, 23);
    requestAnimationFrame(tickClock);
  }

  // ---- choices

  function choose(mode) {
    opened.at = opened.mode ? performance.now() : 0;
    opened.mode = mode;
    first = null;
    misses = nativeStalls = stallsSeen = 0;
    graph.clear();
    recent = [];
    now.cells = now.program = null;
    query.set("mode", mode);
    document.querySelector(`input[value="${mode}"]`).checked = true;
    if (furnished) showLinks();
    engine.start(mode);
  }

  function showLinks() {
    const page = new URL(location.href);
    page.searchParams.set("mode", opened.mode);
    const [any, ll] = [engine.playlist("native"), engine.playlist("ll")];
    const entries = [
      ["This page", page.href],
      ["LHLS, any player", any],
      ["LL-HLS, hls.js", ll],
      ["ffplay", `ffplay -fflags nobuffer -flags low_delay -framedrop ${any}`],
      ["mpv", `mpv --profile=low-latency ${any}`],
      ["VLC", `vlc ${any}`],
    ];
    $("links").replaceChildren(...entries.map(([label, text]) => {
      const item = document.createElement("li");
      const id = `link-${label.replace(/\W+/g, "-")}`;
      item.innerHTML = `<label></label><input readonly><button type="button">Copy</button>`;
      const [name, field, button] = item.children;
      name.textContent = label;
      name.htmlFor = field.id = id;
      field.value = text;
      button.setAttribute("aria-label", `Copy ${label}`);
      field.addEventListener("focus", () => field.select());
      button.addEventListener("click", () => copy(field, button));
      return item;
    }));
  }

  async function copy(field, button) {
    try {
      await navigator.clipboard.writeText(field.value);
    } catch {
      // Without TLS browsers have no clipboard; the old way still works.
      field.select();
      document.execCommand("copy");
    }
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  }

  for (const input of document.querySelectorAll("input[name=mode]")) {
    input.disabled = !supported[input.value];
    input.addEventListener("change", () => {
      choose(input.value);
      history.replaceState(null, "", `?${query}`);
    });
  }
  $("sound").addEventListener("click", () => {
    video.muted = false;
    video.play().catch(() => {});
  });
  video.addEventListener("volumechange", () => ($("sound").hidden = !video.muted));

  // ---- begin

  const wish = query.get("mode");
  const mode = ["lhls", "ll", "native"].find((name) => name === wish && supported[name]) ?? (supported.lhls ? "lhls" : "native");
  if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(onPicture);
  else video.addEventListener("timeupdate", () => onPictureWithoutCallback());
  choose(mode);
  const timeUrl = new URL("api/time", root).href;
  // Not at once: the first picture has all that the browser can do until then.
  setTimeout(furnish, 1000);
  setTimeout(() => engine.syncClock(timeUrl), 1000);
  setInterval(() => engine.syncClock(timeUrl), 60_000);

  /** Adds what can wait for the first picture: to lay it out, and to paint the clock anew all the time, takes longer than to decode that. */
  function furnish() {
    if (furnished) return;
    furnished = true;
    video.controls = true;
    showLinks();
    setInterval(refresh, 200);
    tickClock();
  }

  /** Older browsers do not tell when a picture is shown; the playhead is nearly as good. */
  function onPictureWithoutCallback() {
    onPicture(0, { expectedDisplayTime: performance.now(), mediaTime: video.currentTime, width: video.videoWidth, height: video.videoHeight });
  }

  /** For tests: everything that the page shows, as numbers. */
  globalThis.lhlsPage = () => ({
    state: document.body.dataset.state,
    mode: opened.mode,
    cells: now.cells,
    program: now.program,
    first,
    stalls: engine.native ? nativeStalls : engine.allStalls,
    fatals: engine.fatals ?? 0,
    rate: video.playbackRate,
    margin: engine.pilot ? engine.pilot.margin : null,
    low: engine.pilot ? engine.pilot.low : null,
    jumps: engine.pilot ? engine.pilot.jumps : 0,
    log: [...$("log").children].map((entry) => entry.textContent),
  });
})();
