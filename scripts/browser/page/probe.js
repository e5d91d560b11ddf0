// Notes every picture that a video element shows: when it was shown, and how old it was by the clock in the picture.
// Needs cells.js. Used by the measuring page, and put into the player page by scripts/latency.
"use strict";

globalThis.lhlsProbe = (video) => {
  const result = {
    // [shown at (ms since the page was opened), latency (ms), media time (s)]
    frames: [],
    // Pictures whose strip could not be read, that were shown between two callbacks, or that were replaced before they could be read.
    unread: 0,
    skipped: 0,
    torn: 0,
    waits: [],
    // [due at (ms since the page was opened), ms late]: the page's own timers, when they were late enough to be noticed.
    late: [],
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
    let picture;
    try {
      picture = new VideoFrame(video);
    } catch {
      result.unread++;
      return;
    }
    // By the time the callback runs the element may hold a later picture than the one that it is about.
    const torn = Math.abs(picture.timestamp / 1e6 - frame.mediaTime) > 0.002;
    const drawn = reader.read(picture, picture.displayWidth, picture.displayHeight);
    picture.close();
    if (torn) result.torn++;
    else if (drawn === null) result.unread++;
    else result.frames.push([shown, performance.timeOrigin + shown - drawn, frame.mediaTime]);
  }
  video.requestVideoFrameCallback(onFrame);

  let due = performance.now() + 20;
  (function tick() {
    const now = performance.now();
    if (now - due >= 30) result.late.push([due, now - due]);
    due = now + 20;
    setTimeout(tick, 20);
  })();

  video.addEventListener("waiting", () => result.waits.push(performance.now()));
  video.addEventListener("error", () => result.errors.push(`fatal media error ${video.error && video.error.code}: ${video.error && video.error.message}`));

  /** Everything measured so far. */
  result.report = () => {
    const quality = video.getVideoPlaybackQuality();
    return {
      ...result,
      report: undefined,
      duration: performance.now(),
      origin: performance.timeOrigin,
      dropped: quality.droppedVideoFrames,
      decoded: quality.totalVideoFrames,
      // How far the page's two clocks have drifted apart, ms; latency is on the first of them.
      clockSkew: performance.timeOrigin + performance.now() - Date.now(),
    };
  };
  return result;
};
