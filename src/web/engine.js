// Plays a live stream in a video element and never gives up: waits until the stream is there, plays it, and goes back to waiting
// when it has ended or broken. It knows three ways to play:
//
//   lhls    the early-announcing playlist. Each growing segment is read with one streaming request and handed to the decoder access unit
//           by access unit, so the round trip does not matter and nothing waits for a segment or a part to be complete.
//   ll      the LL-HLS playlist, part by part, as hls.js does it.
//   native  the browser's own player.
//
// How near to the live edge it plays is pilot.js's business; what is shown on the page is player.js's.
"use strict";

(function (root) {
  const RETRY_MS = 500;
  /** How long the server is asked to hold a request for a stream that is not live yet. */
  const WAIT_S = 10;
  /** Up to which round trips the shortest parts and those of 200 ms do; docs/players.md has the figures. */
  const SHORT_TRIP_MS = 25;
  const MIDDLE_TRIP_MS = 120;
  /** With no new picture for this long, start over. */
  const FROZEN_MS = 6000;

  /** Scripts are led to segments that are sent whole, unless they say that they read along. */
  const PLAYLISTS = { lhls: "playlist.m3u8?stream", ll: "ll.m3u8", native: "playlist.m3u8" };

  /** What both ways of hls.js have in common. */
  const COMMON = {
    // A worker would load and compile all of hls.js once more before the first picture, and every piece would go there and back after it.
    enableWorker: false,
    // Asked only when the element is ready for media, hls.js would look for its first segment up to 100 ms later.
    startFragPrefetch: true,
    // Jumps and rates are the pilot's; hls.js would need a second of buffer before it caught up.
    maxLiveSyncPlaybackRate: 1,
    liveSyncOnStallIncrease: 0,
    liveDurationInfinity: true,
    backBufferLength: 10,
    maxBufferLength: 10,
    // A live stream that is not there will not be there in the next second either; the waiting loop asks again.
    manifestLoadPolicy: {
      default: { maxTimeToFirstByteMs: 20_000, maxLoadTimeMs: 20_000, timeoutRetry: null, errorRetry: null },
    },
  };

  // A playhead as far behind as the limits here say has fallen off the end of the playlist: far more than any hold-back, and less
  // than what servers keep.
  const STREAMING = { progressive: true, lowLatencyMode: false, liveSyncDurationCount: 3, liveMaxLatencyDurationCount: 12 };
  const PARTS = { liveSyncDuration: 0.1, liveMaxLatencyDuration: 12 };

  /** What was played so long ago need not be known any more; longer than what is kept of it. */
  const FORGOTTEN_S = 30;
  /** hls.js neither loads nor finds anything to load, and is so many seconds behind its own playlist, for so many milliseconds: it is stuck. */
  const STUCK_BEHIND_S = 1;
  const STUCK_MS = 1000;

  /** Parts come one request after another, so their arrival is less even than that of a stream of bytes. */
  const PARTS_MARGIN = 0.13;

  class Engine {
    /**
     * `callbacks.state(name, text)`: "waiting", "loading" or "playing". `callbacks.log(text)`: what happened, for people.
     * `base`: the URL that playlists are relative to.
     */
    constructor(video, base, callbacks) {
      this.video = video;
      this.base = base;
      this.callbacks = callbacks;
      this.run = 0;
      this.stalls = 0;
      this.serverOffset = 0;
      video.addEventListener("loadedmetadata", () => this.begin());
      video.addEventListener("ended", () => this.restart("the stream has ended"));
      video.addEventListener("error", () => this.native && this.restart("the browser's player failed"));
    }

    static modes() {
      const native = document.createElement("video").canPlayType("application/vnd.apple.mpegurl") !== "";
      return { lhls: Hls.isSupported(), ll: Hls.isSupported(), native };
    }

    playlist(mode = this.mode) {
      const url = new URL(PLAYLISTS[mode], this.base);
      const parts = mode === "ll" ? this.partsFor(this.roundTrip()) : null;
      if (parts) url.searchParams.set("pt", parts);
      return url.href;
    }

    /**
     * Milliseconds from a request to its answer, as the page has seen it so far: the least, which is the line's own. What the browser had to
     * load for the page tells it before anything is asked for on purpose; null if all of it was kept from before.
     */
    roundTrip() {
      const entries = [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")];
      const own = entries.filter((entry) => entry.transferSize > 0 && new URL(entry.name).origin === this.base.origin && !/\.(ts|m3u8)$/.test(new URL(entry.name).pathname));
      const times = own.map((entry) => entry.responseStart - entry.requestStart).filter((time) => time > 0);
      return times.length ? Math.min(...times) : null;
    }

    /** Which parts to ask for on such a line, ms: at least twice as long as the round trip, since hls.js asks for one after the other. Null: the shortest. */
    partsFor(roundTrip) {
      if (roundTrip === null || roundTrip <= SHORT_TRIP_MS) return null;
      return roundTrip <= MIDDLE_TRIP_MS ? 200 : 500;
    }

    /** Plays in this mode from now on; first without asking whether the stream is there, as it mostly is. */
    start(mode) {
      this.mode = mode;
      this.stalls = 0;
      this.open(++this.run);
    }

    /** Goes back to waiting; the picture that was last shown stays until there is a new one. */
    async restart(why) {
      const run = ++this.run;
      this.close();
      this.callbacks.log(why);
      this.callbacks.state("waiting", why);
      if ((await this.untilLive(run)) && run === this.run) this.open(run);
    }

    /** Resolves when the stream is live, to false if something else was started meanwhile. */
    async untilLive(run) {
      for (;;) {
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
        if (run !== this.run) return false;
        try {
          const waiting = new URL(this.playlist());
          waiting.searchParams.set("wait", WAIT_S);
          const multivariant = await this.text(waiting.href);
          const first = multivariant.split("\n").find((line) => line && !line.startsWith("#"));
          const media = await this.text(new URL(first, this.playlist()).href);
          if (!media.includes("#EXT-X-ENDLIST")) return true;
        } catch {
          // Not there yet, or the server is not.
        }
      }
    }

    async text(url) {
      const response = await fetch(url, { cache: "no-store" });
      if (!response.ok) throw new Error(String(response.status));
      return response.text();
    }

    open(run) {
      this.close();
      const { video } = this;
      this.callbacks.state("loading", "");
      this.lastPicture = this.notStuck = performance.now();
      if (this.mode === "native") {
        this.native = true;
        video.src = this.playlist();
      } else {
        this.openHls(run);
      }
      video.play().catch(() => {});
      this.watch(run);
    }

    openHls(run) {
      const { video } = this;
      const streaming = this.mode === "lhls";
      const hls = new Hls({
        ...COMMON,
        ...(streaming ? STREAMING : PARTS),
      });
      if (streaming && hls.config.progressive) hls.config.fLoader = streamingLoader(hls.config.loader);
      this.hls = hls;
      const lump = () => {
        const details = hls.latestLevelDetails;
        if (hls.config.progressive || !details) return 0.05;
        return details.partTarget || details.targetduration;
      };
      this.pilot = new LhlsPilot(video, lump, { margin: streaming ? undefined : PARTS_MARGIN, log: this.callbacks.log });
      hls.on(Hls.Events.ERROR, (_, data) => {
        this.callbacks.log(`${data.fatal ? "fatal: " : ""}${data.details}${data.response ? ` ${data.response.code}` : ""}`);
        if (!data.fatal || run !== this.run) return;
        this.fatals = (this.fatals ?? 0) + 1;
        if (data.type === Hls.ErrorTypes.MEDIA_ERROR && performance.now() - (this.recovered ?? -1e9) > 5000) {
          this.recovered = performance.now();
          hls.recoverMediaError();
        } else {
          const missing = data.response && data.response.code === 404;
          this.restart(missing ? "the stream is not live" : `playing failed: ${data.details}`);
        }
      });
      hls.on(Hls.Events.BUFFER_APPENDED, () => this.begin());
      this.forgetPlayed(hls);
      hls.on(Hls.Events.LEVEL_UPDATED, (_, { details }) => {
        if (run !== this.run || details.live) return;
        this.over = true;
        this.pilot.enabled = false;
        video.playbackRate = 1;
      });
      hls.loadSource(streaming && !hls.config.progressive ? new URL(PLAYLISTS.native, this.base).href : this.playlist());
      hls.attachMedia(video);
    }

    /**
     * Shows the first picture there is. hls.js would wait for the end of the segment it is in, which may be a second away, or for all parts up
     * to the one that it starts with; to that one it moves when it is there.
     */
    begin() {
      const { video } = this;
      if (!this.hls || this.begun || video.readyState < 1 || !video.buffered.length) return;
      this.begun = true;
      const start = video.buffered.start(0);
      if (video.currentTime < start) video.currentTime = start;
    }

    /**
     * Spares hls.js 1.7.4 a search for what the browser has removed, of which it draws wrong conclusions when that search comes between the
     * loading of a part and its appending. It takes the parts of the segment for not loaded, and at its end finds nothing to load until
     * they have left the playlist, three target durations later. And sound that begins before the pictures of its segment, as it does here,
     * looks like an overlap to it: it removes all pictures from there on, the latest included. What has long been played is forgotten
     * instead, and nobody here goes back to it.
     */
    forgetPlayed(hls) {
      const tracker = hls.streamController?.fragmentTracker;
      if (!tracker) return;
      tracker.detectEvictedFragments = () => tracker.removeFragmentsInRange(0, this.video.currentTime - FORGOTTEN_S, "main");
    }

    /** Whether hls.js has stopped loading though its playlist goes on. */
    stuck() {
      const { hls, video } = this;
      const details = hls && !hls.config.progressive && hls.latestLevelDetails;
      const behind = details && video.buffered.length ? details.partEnd - video.buffered.end(video.buffered.length - 1) : 0;
      if (behind < STUCK_BEHIND_S || loadingState(hls) !== "IDLE") this.notStuck = performance.now();
      return performance.now() - this.notStuck > STUCK_MS;
    }

    close() {
      clearInterval(this.timer);
      if (this.pilot) {
        this.stalls += this.pilot.stalls;
        this.pilot.destroy();
      }
      if (this.hls) this.hls.destroy();
      if (this.native) {
        this.video.removeAttribute("src");
        this.video.load();
      }
      this.hls = this.pilot = null;
      this.native = this.over = this.shown = this.begun = false;
    }

    /** Called for every picture that is shown. */
    picture() {
      this.lastPicture = performance.now();
      if (!this.shown) {
        this.shown = true;
        this.callbacks.state("playing", "");
      }
    }

    watch(run) {
      this.timer = setInterval(() => {
        if (run !== this.run || this.video.paused || document.hidden) {
          this.lastPicture = this.notStuck = performance.now();
          return;
        }
        if (this.stuck()) {
          this.callbacks.log("loading has stopped, starting anew");
          this.open(run);
          return;
        }
        const still = performance.now() - this.lastPicture;
        if (this.over && still > 1000) this.restart("the stream has ended");
        else if (still > FROZEN_MS) this.restart(this.shown ? "no picture came any more" : "no picture came");
      }, 250);
    }

    /** Stalls since the mode was chosen. */
    get allStalls() {
      return this.stalls + (this.pilot ? this.pilot.stalls : 0);
    }

    /**
     * The wall-clock time, by the server's clock and in ms, at which the server got the picture with this media time; null if that is
     * not known.
     */
    programTime(mediaTime) {
      const { video, hls } = this;
      if (hls) {
        const date = hls.playingDate;
        return date ? date.getTime() + (mediaTime - video.currentTime) * 1000 : null;
      }
      const start = video.getStartDate ? video.getStartDate().getTime() : NaN;
      return Number.isFinite(start) ? start + mediaTime * 1000 : null;
    }

    /** Finds out how far this computer's clock is from the server's; of a few tries the fastest tells best. */
    async syncClock(url) {
      let best = Infinity;
      for (let i = 0; i < 5; i++) {
        try {
          const sent = performance.now();
          const { unix_ms: server } = JSON.parse(await this.text(url));
          const received = performance.now();
          if (received - sent >= best) continue;
          best = received - sent;
          this.serverOffset = server - (performance.timeOrigin + (sent + received) / 2);
        } catch {
          return;
        }
      }
    }

    /** The server's time in Unix ms at a moment of performance.now(). */
    serverTime(at = performance.now()) {
      return performance.timeOrigin + at + this.serverOffset;
    }
  }

  /**
   * hls.js collects 128 KiB before it hands anything on, which is most of a second; this hands on what comes when it comes.
   */
  function streamingLoader(Base) {
    return class extends Base {
      load(context, config, callbacks) {
        super.load(context, { ...config, highWaterMark: 0 }, callbacks);
      }
    };
  }

  /** What hls.js is doing about media, by its own word for it. */
  function loadingState(hls) {
    return hls.inFlightFragments.main?.state;
  }

  root.LhlsEngine = Engine;
})(globalThis);
